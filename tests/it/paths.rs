//! Routes and the spellings of a path: what a server takes for the same path goes where that path
//! goes.

use crate::support::{Client, Juggler, Origin};

/// Two servers: `admin` gets what is below `/admin` and `/caf%C3%A9`, `rest` gets everything else.
fn start(listener: &str) -> (Origin, Origin, Juggler) {
    let (rest, admin) = (Origin::answering("rest"), Origin::answering("admin"));
    let juggler = Juggler::start(&format!(
        "[[listener]]\nname = \"main\"\nbind = [\"127.0.0.1:0\"]\n{listener}\n[[route]]\ncluster \
         = \"rest\"\n[[route]]\npath = \"/admin\"\ncluster = \"admin\"\n[[route]]\npath = \
         \"/caf%c3%a9\"\ncluster = \"admin\"\n[[cluster]]\nname = \"rest\"\ncapacity = 1\nserver \
         = [{{ address = \"{}\" }}]\n[[cluster]]\nname = \"admin\"\ncapacity = 1\nserver = [{{ \
         address = \"{}\" }}]\n",
        rest.address(),
        admin.address()
    ));
    (rest, admin, juggler)
}

#[test]
fn every_spelling_of_a_path_leads_to_its_route() {
    let (rest, admin, juggler) = start("");
    let mut client = Client::connect(juggler.address());
    for (target, server) in [
        ("/admin", &admin),
        ("//admin", &admin),
        ("///admin//x", &admin),
        ("/./admin", &admin),
        ("/x/../admin", &admin),
        ("/x/..//admin/", &admin),
        ("/%61dmin", &admin),
        ("/%61%64%6D%69%6e", &admin),
        ("/admin;a=b", &admin),
        ("/;/admin", &admin),
        ("/x/..;/admin", &admin),
        ("/.;a/admin", &admin),
        ("/%2e/admin", &admin),
        ("/x/%2E%2e/admin", &admin),
        ("/x/.%2e/admin?q=/../", &admin),
        ("/../admin", &admin),
        ("/x/../../../admin", &admin),
        ("/admin/x/..", &admin),
        ("/admin/./", &admin),
        ("/admin%00x", &admin),
        ("/caf%C3%A9", &admin),
        ("/caf%c3%A9/x", &admin),
        ("http://test/x/../admin", &admin),
        ("/admin/..", &rest),
        ("/admin/../x", &rest),
        ("/admin/%2e%2e/x", &rest),
        ("/adminx", &rest),
        ("/Admin", &rest),
        ("/admin%2Fx", &rest),
        ("/admin%5Cx", &rest),
        ("/x%2F..%2Fadmin", &rest),
        ("/x\\..\\admin", &rest),
        ("/...", &rest),
        ("/%2561dmin", &rest),
        ("/x?/../admin", &rest),
    ] {
        client
            .exchange(format!("GET {target} HTTP/1.1\r\nHost: test\r\n\r\n"))
            .expect(200);
        let got = [&rest, &admin].map(Origin::requests);
        let ([[one], []] | [[], [one]]) = got.each_ref().map(Vec::as_slice) else {
            panic!("{target}: {got:?}")
        };
        assert_eq!(server.requests().len(), 1, "{target}");
        // The server receives the path as the client spelt it.
        assert_eq!(
            one.target,
            target.trim_start_matches("http://test"),
            "{target}"
        );
        rest.forget();
        admin.forget();
    }
}

#[test]
fn a_path_that_cannot_be_decoded_passes_no_route() {
    let (rest, admin, juggler) = start("");
    for target in [
        "/%",
        "/%6",
        "/%zzdmin",
        "/%u0061dmin",
        "/admin/%",
        "/x/../%61dmin%2",
    ] {
        let mut client = Client::connect(juggler.address());
        let response = client.exchange(format!("GET {target} HTTP/1.1\r\nHost: test\r\n\r\n"));
        assert_eq!(response.status, 400, "{target}");
        // The end of the request is clear, so the connection stays.
        assert!(!response.closes(), "{target}");
    }
    assert!(rest.requests().is_empty() && admin.requests().is_empty());
    // A query is for the server alone.
    Client::connect(juggler.address())
        .get("/x?q=100%")
        .expect(200);
}

#[test]
fn a_path_that_no_route_looks_at_is_the_servers_alone() {
    let origin = Origin::answering("fine");
    let juggler = crate::support::Config::new([origin.address()]).start();
    Client::connect(juggler.address())
        .get("/100%/../%zz")
        .expect(200);
    assert_eq!(origin.request().target, "/100%/../%zz");
}

#[test]
fn the_health_path_is_known_in_every_spelling() {
    let (rest, admin, juggler) = start("health_path = \"/admin/up\"");
    let mut client = Client::connect(juggler.address());
    for target in [
        "/admin/up",
        "//admin/up",
        "/x/../admin/%75p",
        "/admin;x/up;jsessionid=1",
    ] {
        assert_eq!(
            client.get(target).expect(200).text(),
            "200 OK: ok\n",
            "{target}"
        );
    }
    for target in ["/admin/up/x", "/admin%2Fup"] {
        assert_ne!(
            client.get(target).expect(200).text(),
            "200 OK: ok\n",
            "{target}"
        );
    }
    assert_eq!((rest.requests().len(), admin.requests().len()), (1, 1));
}

#[test]
fn very_long_paths_are_seen_through() {
    let (_rest, _admin, juggler) = start("");
    let mut client = Client::connect(juggler.address());
    let deep = "/abcdefghi".repeat(300);
    let up = "/..".repeat(300);
    assert_eq!(
        client.get(&format!("{deep}{up}/admin")).expect(200).text(),
        "admin"
    );
    assert_eq!(
        client
            .get(&format!("{deep}{}/admin", "/..".repeat(299)))
            .expect(200)
            .text(),
        "rest"
    );
    assert_eq!(
        client.get(&format!("/admin{deep}")).expect(200).text(),
        "admin"
    );
    assert_eq!(
        client
            .get(&format!("/{}/../admin", "x".repeat(4000)))
            .expect(200)
            .text(),
        "admin"
    );
    assert_eq!(
        client
            .get(&format!("/admin{}", "%61".repeat(1000)))
            .expect(200)
            .text(),
        "rest"
    );
}
