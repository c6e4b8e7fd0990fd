//! The street that most tests stand on: two nodes of a bakery, two of a library, an agreement.

use mesh_tests::home::Home;
use mesh_tests::lab::Lab;
use mesh_tests::runner::Place;
use mesh_tests::transcript::{Cast, raise_mesh};

/// A street whose mesh is up.
#[derive(Debug)]
pub struct Street {
    /// The homes' network.
    pub lab: Lab,
    /// Who lives there.
    pub cast: Cast,
}

impl Street {
    /// Builds it; `configure` sees each home before its node starts.
    pub fn raise(
        place: &Place,
        configure: impl Fn(&Home) -> anyhow::Result<()>,
    ) -> anyhow::Result<Self> {
        let lab = Lab::new(&Cast::NAMES, &place.folder, &place.programs)?;
        Self::raise_on(lab, configure)
    }

    /// Raises a mesh on a lab where the cast lives.
    pub fn raise_on(
        lab: Lab,
        configure: impl Fn(&Home) -> anyhow::Result<()>,
    ) -> anyhow::Result<Self> {
        let cast = Cast::of(|name| lab.home(name).cloned())?;
        for home in cast.all() {
            configure(home)?;
        }
        raise_mesh(&cast)?;
        Ok(Self { lab, cast })
    }
}
