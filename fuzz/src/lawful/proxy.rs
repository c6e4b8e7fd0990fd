//! What programs say to the proxies.

/// Returns greetings with their requests.
pub fn socks() -> Vec<(&'static str, Vec<u8>)> {
    let request = |kind: u8, host: &[u8]| {
        let head = [5, 2, 0, 2, 5, 1, 0, kind];
        [&head, host, &[0x15, 0x38]].concat()
    };
    let mut service = [0; 16];
    service[..2].copy_from_slice(&[0xfd, 0x73]);
    let mut name = b"crm-db.bakery.mesh.internal".to_vec();
    let len = u8::try_from(name.len()).expect("a short name");
    name.insert(0, len);
    vec![
        ("ipv4", request(1, &[192, 0, 2, 1])),
        ("ipv6", request(4, &service)),
        ("name", request(3, &name)),
        ("text", request(3, b"\x09[fd73::7]")),
    ]
}

/// Returns heads of requests.
pub fn heads() -> Vec<(&'static str, Vec<u8>)> {
    let connect = "CONNECT [fd73::7]:5432 HTTP/1.1\r\nHost: [fd73::7]:5432\r\n\r\n";
    let get = "GET http://wiki.bakery.mesh.internal/a?b HTTP/1.1\r\nHost: x\r\n\
               Connection: keep-alive, X-Hop\r\nX-Hop: 1\r\nAccept: */*\r\n\r\n";
    let post = "POST http://[fd73::7]:8080 HTTP/1.0\r\nContent-Length: 3\r\n\r\nabc";
    [("connect", connect), ("get", get), ("post", post)]
        .map(|(name, head)| (name, head.as_bytes().to_vec()))
        .to_vec()
}
