//! The steps of an order's life, as the kills know them.

/// One step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Step {
    /// `meshctl plan`.
    Plan,
    /// From the command to the first word: the order is recorded, a node is chosen.
    Order,
    /// Until the node has reserved.
    Reserve,
    /// Until it is awarded.
    Award,
    /// Until it is granted and the software is there.
    Grant,
    /// Until the shim is born.
    Create,
    /// Until processes run.
    Start,
    /// Until the promises hold and the order is ready.
    Ready,
    /// Rows are written, a line is logged.
    Use,
    /// `meshctl usage --now`.
    Usage,
    /// `meshctl invoice`, on both sides.
    Invoice,
    /// `meshctl stop`.
    Stop,
    /// `meshctl start`.
    Again,
    /// A daemon begins and finds everything again.
    Adopt,
    /// `meshctl destroy`.
    Release,
}

impl Step {
    /// All of them, in the order of a life.
    pub const ALL: [Self; 15] = [
        Self::Plan,
        Self::Order,
        Self::Reserve,
        Self::Award,
        Self::Grant,
        Self::Create,
        Self::Start,
        Self::Ready,
        Self::Use,
        Self::Usage,
        Self::Invoice,
        Self::Stop,
        Self::Again,
        Self::Adopt,
        Self::Release,
    ];

    /// Returns its number.
    pub const fn number(self) -> usize {
        self as usize
    }

    /// Returns the step of a number.
    pub fn of(number: usize) -> Option<Self> {
        Self::ALL.get(number).copied()
    }

    /// Returns whether it is a part of `meshctl order`.
    pub const fn is_of_order(self) -> bool {
        matches!(
            self,
            Self::Order
                | Self::Reserve
                | Self::Award
                | Self::Grant
                | Self::Create
                | Self::Start
                | Self::Ready
        )
    }

    /// Returns whether an instance that was up stays up, unless it is killed itself.
    pub const fn leaves_running(self) -> bool {
        matches!(
            self,
            Self::Ready | Self::Use | Self::Usage | Self::Invoice | Self::Adopt
        )
    }

    /// Returns the step that begins when the customer has read this on the screen of its order.
    pub fn after(tick: &str) -> Option<Self> {
        match tick {
            "planned" => Some(Self::Reserve),
            "reserved" => Some(Self::Award),
            "awarded" => Some(Self::Grant),
            "software ready" => Some(Self::Create),
            "started" => Some(Self::Ready),
            _ => None,
        }
    }
}
