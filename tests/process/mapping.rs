//! A real node and a router that passes its port on, which is a thread of the test in another network namespace.

use std::io;
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream, UdpSocket};
use std::sync::{Arc, Mutex};
use std::thread;

use serde_json::json;

use crate::support::netns::{Cable, End};
use crate::support::{NodeSetup, holds_in_time};

const PORT: u16 = 8000;
const EXTERNAL_PORT: u16 = 18000;

/// For how many seconds each port was asked to be passed on.
type Wishes = Arc<Mutex<Vec<(u16, u32)>>>;

/// Speaks NAT-PMP (RFC 6886) at the right end, and passes connections to [`EXTERNAL_PORT`] there on to the left one.
fn route(cable: &Cable) -> Wishes {
    let (right, left) = (cable.address(End::Right, 1), cable.address(End::Left, 1));
    let external: Ipv4Addr = right.parse().unwrap();
    let wishes = Wishes::default();
    let noted = Arc::clone(&wishes);
    let sockets = cable.run_at(End::Right, move || {
        let socket = UdpSocket::bind((external, 5351)).unwrap();
        let listener = TcpListener::bind((external, EXTERNAL_PORT)).unwrap();
        // Started here, so that they dial from here too.
        thread::spawn(move || answer(&socket, external, &noted));
        thread::spawn(move || pass_on(&listener, &left));
    });
    sockets.join().unwrap();
    wishes
}

fn answer(socket: &UdpSocket, external: Ipv4Addr, wishes: &Wishes) {
    let mut request = [0; 1100];
    while let Ok((size, from)) = socket.recv_from(&mut request) {
        let answer = match request[..size] {
            // Its own address.
            [0, 0] => [&[0, 128, 0, 0, 0, 0, 0, 9][..], &external.octets()].concat(),
            [0, 2, _, _, port_high, port_low, _, _, a, b, c, d] => {
                let lifetime = [a, b, c, d];
                let port = u16::from_be_bytes([port_high, port_low]);
                wishes.lock().unwrap().push((port, u32::from_be_bytes(lifetime)));
                let ports = [port.to_be_bytes(), EXTERNAL_PORT.to_be_bytes()].concat();
                [&[0, 130, 0, 0, 0, 0, 0, 9][..], &ports, &lifetime].concat()
            }
            // Another version, or not TCP.
            [_, operation, ..] => vec![0, operation | 128, 0, 1, 0, 0, 0, 9],
            _ => continue,
        };
        socket.send_to(&answer, from).unwrap();
    }
}

fn pass_on(listener: &TcpListener, to: &str) {
    for stream in listener.incoming() {
        let outer = stream.unwrap();
        let inner = TcpStream::connect((to, PORT)).unwrap();
        for (mut from, mut to) in [(outer.try_clone().unwrap(), inner.try_clone().unwrap()), (inner, outer)] {
            thread::spawn(move || {
                let _ended = io::copy(&mut from, &mut to);
                let _gone = to.shutdown(Shutdown::Write);
            });
        }
    }
}

#[test]
fn a_router_passes_the_port_on_until_the_node_ends_and_who_comes_in_confirms_it() {
    let Some(cable) = Cable::lay("having a router pass the port on") else { return };
    cable.route_by_other_end(End::Left);
    let wishes = route(&cable);
    let mut node = NodeSetup::new().on(&cable, End::Left).port(PORT).option("--map-port").start();
    let external = format!("{}:{EXTERNAL_PORT}", cable.address(End::Right, 1));
    node.wait_for(&json!({ "event": "mapped", "addr": external, "by": "NAT-PMP", "public": false }));
    let mut outside = NodeSetup::new().on(&cable, End::Right).port(PORT).start();
    outside.connect(&external);
    let id = outside.node_id();
    let is_confirmed = holds_in_time(|| {
        let whoami = node.result_of("whoami");
        let addresses = whoami["addresses"].as_array().unwrap();
        let mapped = addresses.iter().find(|row| row["addr"] == external.as_str()).unwrap();
        assert_eq!(mapped["source"], "router", "{whoami}");
        mapped["confirmed_by"]["node_id"] == id
    });
    assert!(is_confirmed, "{}", node.report());
    node.type_line("quit");
    assert_eq!(node.exit_code(), Some(0));
    let wishes = wishes.lock().unwrap().clone();
    let [(PORT, asked), .., (PORT, 0)] = wishes[..] else { panic!("{wishes:?}") };
    assert!(asked > 0, "{wishes:?}");
}

#[test]
fn where_no_router_does_it_that_is_said() {
    let Some(cable) = Cable::lay("finding no router that passes a port on") else { return };
    let mut node = NodeSetup::new().on(&cable, End::Left).port(PORT).option("--map-port").start();
    node.wait_for_log(&["no router passes the port on", "no default route", "it is asked again"]);
    node.result_of("whoami");
}
