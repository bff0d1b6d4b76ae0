//! A network of its own on loopback; nothing here leaves this machine.

use mainline::Testnet;

use super::*;

fn testnet() -> Testnet {
    Testnet::builder(5).bind_address(Ipv4Addr::LOCALHOST).build().unwrap()
}

fn home(dir: &tempfile::TempDir) -> Home {
    Home::open(dir.path().join("home")).unwrap()
}

fn member(bootstrap: Bootstrap, home: Home) -> Mainline {
    let port = free_port(Ipv4Addr::LOCALHOST, 0, true).unwrap();
    let socket = SocketAddrV4::new(Ipv4Addr::LOCALHOST, port);
    Mainline { socket, here: Ipv4Addr::LOCALHOST.into(), bootstrap, home }
}

fn entered_by(nodes: &[String]) -> Bootstrap {
    Bootstrap::Own(nodes.iter().map(|node| node.parse().unwrap()).collect())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_one_announces_another_finds_with_its_port() {
    let (net, dir) = (testnet(), tempfile::tempdir().unwrap());
    let key = DhtKey([7; 20]);
    let one = member(entered_by(&net.bootstrap), home(&dir)).join().await.unwrap();
    let other = member(entered_by(&net.bootstrap[..1]), home(&dir)).join().await.unwrap();
    assert_eq!(other.entry, IpAddr::from(Ipv4Addr::LOCALHOST));
    one.finder.announce(key, 4321).await.unwrap();
    let found = other.finder.look_up(key).next().await.unwrap();
    assert_eq!(found, [SocketAddr::from((Ipv4Addr::LOCALHOST, 4321))]);
    assert!(!other.finder.nodes().await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_nodes_of_the_last_time_are_enough_to_come_in() {
    let (net, dir) = (testnet(), tempfile::tempdir().unwrap());
    let gone = free_port(Ipv4Addr::LOCALHOST, 0, true).unwrap();
    let member = member(entered_by(&[format!("127.0.0.1:{gone}")]), home(&dir));
    let failed = member.join().await.map(|_| ()).unwrap_err();
    assert!(failed.to_string().contains("none of the 1 nodes"), "{failed}");
    member.remember(net.bootstrap.iter().map(|node| node.parse().unwrap()).collect()).await;
    assert!(member.join().await.is_ok());
    std::fs::write(dir.path().join("home/dht-nodes"), "rubbish").unwrap();
    assert!(member.join().await.is_err(), "what is damaged is left alone");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_first_of_a_network_needs_nobody_and_lets_others_in() {
    let dir = tempfile::tempdir().unwrap();
    let first = member(Bootstrap::First, home(&dir));
    let joined = first.join().await.unwrap();
    assert!(joined.is_first && joined.finder.nodes().await.is_empty());
    let second = member(entered_by(&[first.socket.to_string()]), home(&dir)).join().await.unwrap();
    let key = DhtKey([8; 20]);
    second.finder.announce(key, 4322).await.unwrap();
    let third = member(entered_by(&[first.socket.to_string()]), home(&dir)).join().await.unwrap();
    let found = third.finder.look_up(key).next().await.unwrap();
    assert_eq!(found, [SocketAddr::from((Ipv4Addr::LOCALHOST, 4322))]);
}

#[test]
fn nobody_but_those_who_are_named_is_asked() {
    let dir = tempfile::tempdir().unwrap();
    let names = ["node.example:1".to_owned(), "127.0.0.1:2".to_owned()];
    assert_eq!(member(entered_by(&names), home(&dir)).bootstrap_names(), names);
    assert!(member(Bootstrap::First, home(&dir)).bootstrap_names().is_empty());
}
