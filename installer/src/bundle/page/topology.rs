//! The page's section on topology: draws each NUMA node as a box with its PCI tree, and `NVLink`s
//! at the right.
//!
//! The drawing grows downwards, so that it also fits the narrow screen of a phone.

use std::collections::BTreeSet;

use maud::{Markup, html};

use crate::bundle::topology::{DeviceKind, DeviceLink, PciDevice, Topology};

const WIDTH: usize = 360;
const ROW: usize = 34;
const PORT: usize = 20;
const HEAD: usize = 26;
const GAP: usize = 10;
/// Where the links begin.
const RIGHT: usize = 272;
/// Distance between two links.
const LANE: usize = 9;
const LANES: usize = 8;

/// One line of the drawing.
struct DrawnRow<'a> {
    y: usize,
    /// Where its wire begins: at the port above it, or at the device before it.
    from: usize,
    depth: usize,
    what: What<'a>,
}

enum What<'a> {
    /// A host bridge or a port.
    Port(&'a str),
    Device(&'a PciDevice),
}

/// The box of a NUMA node.
struct NumaBox {
    title: String,
    y: usize,
    height: usize,
}

struct Drawing<'a> {
    nodes: Vec<NumaBox>,
    rows: Vec<DrawnRow<'a>>,
    height: usize,
}

pub(super) fn section(topology: &Topology) -> Markup {
    html! {
        section #topology aria-labelledby="topology-title" {
            h2 #topology-title { "Topology" }
            @if topology.devices.is_empty() {
                p { "No GPU of NVIDIA is on PCI here." }
            } @else {
                (svg(topology))
                (words(topology))
            }
        }
    }
}

fn svg(topology: &Topology) -> Markup {
    let drawing = layout(&topology.devices);
    let view = format!("0 0 {WIDTH} {}", drawing.height);
    html! {
        svg viewBox=(view) role="img" aria-labelledby="drawing-title" {
            title #drawing-title { "NUMA nodes, PCI ports, and what is below them; the list after it says the same" }
            @for node in &drawing.nodes {
                rect.node x="1" y=(node.y) width=(WIDTH - 2) height=(node.height) rx="6" {}
                text.small x="12" y=(node.y + 17) { (node.title) }
            }
            @for row in &drawing.rows { (line(row)) }
            (links(&drawing, &topology.links))
        }
    }
}

fn layout(devices: &[PciDevice]) -> Drawing<'_> {
    let mut drawing = Drawing {
        nodes: Vec::new(),
        rows: Vec::new(),
        height: 1,
    };
    let mut y = 1;
    for same in devices.chunk_by(|a, b| a.numa == b.numa) {
        let top = y;
        y += HEAD;
        let mut above: &[String] = &[];
        for device in same {
            let pairs = above.iter().zip(&device.above);
            let shared = pairs.take_while(|(a, b)| a == b).count();
            let is_beside = y > top + HEAD && above == device.above;
            for (depth, port) in device.above.iter().enumerate().skip(shared) {
                let what = What::Port(port);
                drawing.rows.push(DrawnRow {
                    y,
                    from: y,
                    depth,
                    what,
                });
                y += PORT;
            }
            above = &device.above;
            drawing.rows.push(DrawnRow {
                y,
                from: if is_beside { y - ROW + 14 } else { y },
                depth: above.len(),
                what: What::Device(device),
            });
            y += ROW;
        }
        let title = match same[0].numa {
            Some(n) => format!("NUMA node {n}"),
            None => "PCI, no NUMA node named".into(),
        };
        y += 6;
        drawing.nodes.push(NumaBox {
            title,
            y: top,
            height: y - top,
        });
        y += GAP;
    }
    drawing.height = y - GAP + 1;
    drawing
}

fn line(row: &DrawnRow<'_>) -> Markup {
    // The depth is limited so that deep trees stay within the drawing.
    let x = 18 + row.depth.min(5) * 14;
    let y = row.y;
    match row.what {
        What::Port(name) => html! {
            @if row.depth > 0 { path.wire d=(format!("M{} {y}v10h8", x - 10)) {} }
            text.small x=(x) y=(y + 14) { (name) }
        },
        What::Device(device) => html! {
            path.wire d=(format!("M{} {}V{}h8", x - 10, row.from, y + 14)) {}
            rect class=(class(device.kind)) x=(x) y=(y + 4) width="4" height=(ROW - 8) rx="2" {}
            text x=(x + 10) y=(y + 15) { (title(device)) }
            text.small x=(x + 10) y=(y + 28) {
                (device.address) @if let Some(speed) = &device.speed { " · " (speed) }
            }
        },
    }
}

fn class(kind: DeviceKind) -> &'static str {
    match kind {
        DeviceKind::Gpu => "gpu",
        DeviceKind::Switch => "switch",
        DeviceKind::Network => "network",
    }
}

fn title(device: &PciDevice) -> String {
    match (device.kind, device.index) {
        (DeviceKind::Gpu, Some(index)) => {
            format!("GPU {index} {}", device.name.as_deref().unwrap_or_default())
        }
        (DeviceKind::Gpu, None) => "GPU without NVIDIA's driver".into(),
        (DeviceKind::Switch, _) => "NVSwitch".into(),
        (DeviceKind::Network, _) => {
            format!(
                "Network, {}",
                device.driver.as_deref().unwrap_or("no driver")
            )
        }
    }
}

/// Draws a lane for each pair of connected devices. Pairs beyond the last lane are only in the
/// list below.
fn links(drawing: &Drawing<'_>, links: &[DeviceLink]) -> Markup {
    let place = |address: &str| {
        drawing.rows.iter().find_map(|row| match row.what {
            What::Device(d) if d.address == address => Some(row.y + 15),
            _ => None,
        })
    };
    let mut drawn: BTreeSet<(usize, usize)> = BTreeSet::new();
    for link in links {
        let ends = place(&link.from).zip(link.to.as_deref().and_then(place));
        drawn.extend(ends.map(|(a, b)| (a.min(b), a.max(b))));
    }
    // All links to a switch that is not drawn meet in one bar.
    let apart: Vec<usize> = links
        .iter()
        .filter(|l| l.to.as_deref().and_then(place).is_none())
        .filter_map(|l| place(&l.from))
        .collect();
    let bar = apart.iter().min().zip(apart.iter().max());
    html! {
        @for (lane, (from, to)) in drawn.iter().take(LANES).enumerate() {
            path.nvlink d=(format!("M{RIGHT} {from}h{w}V{to}h-{w}", w = 6 + lane * LANE)) {}
        }
        @if let Some((from, to)) = bar {
            path.nvlink d=(format!("M{x} {from}V{to}", x = RIGHT + 20)) {}
            @for y in &apart { path.nvlink d=(format!("M{RIGHT} {y}h20")) {} }
            text.small x=(RIGHT + 26) y=((from + to) / 2 + 4) { "NVSwitch" }
        }
    }
}

/// The same as a list, for readers who do not see the drawing, with the numbers of links.
fn words(topology: &Topology) -> Markup {
    html! {
        details {
            summary { "The same in words" }
            ul {
                @for device in &topology.devices {
                    li {
                        (title(device)) " at " (device.address)
                        @if let Some(numa) = device.numa { ", NUMA node " (numa) }
                        @if let Some(speed) = &device.speed { ", PCIe " (speed) }
                        @if !device.above.is_empty() { ", below " (device.above.join(" › ")) }
                    }
                }
                @for link in &topology.links {
                    li {
                        (link.count) " NVLinks from " (link.from) " to "
                        (link.to.as_deref().unwrap_or("a switch"))
                    }
                }
            }
        }
        @if topology.links.is_empty() {
            p.quiet { "NVML tells of no NVLink that is up, or could not be asked." }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gpu(n: u32) -> PciDevice {
        PciDevice {
            address: format!("0000:{n:02x}:00.0"),
            kind: DeviceKind::Gpu,
            index: Some(n),
            name: Some("NVIDIA H100 80GB HBM3".into()),
            numa: Some(n / 4),
            above: vec![format!("pci0000:{n:02x}"), format!("0000:{n:02x}:01.0")],
            driver: Some("nvidia".into()),
            speed: Some("32.0 GT/s × 16".into()),
        }
    }

    fn link(from: u32, to: Option<u32>) -> DeviceLink {
        DeviceLink {
            from: gpu(from).address,
            to: to.map(|n| gpu(n).address),
            count: 4,
        }
    }

    #[test]
    fn links_of_eight_gpus_with_separate_switches_share_one_bar() {
        let topology = Topology {
            devices: (0..8).map(gpu).collect(),
            links: (0..8).map(|n| link(n, None)).collect(),
        };
        let page = section(&topology).into_string();
        // One line for each GPU, and the bar.
        assert_eq!(page.matches("class=\"nvlink\"").count(), 9);
        assert_eq!(page.matches("class=\"node\"").count(), 2);
        assert!(page.contains("4 NVLinks from 0000:03:00.0 to a switch"));
    }

    #[test]
    fn a_link_that_both_ends_report_is_drawn_once() {
        let topology = Topology {
            devices: (0..2).map(gpu).collect(),
            links: vec![link(0, Some(1)), link(1, Some(0))],
        };
        let page = section(&topology).into_string();
        assert_eq!(page.matches("class=\"nvlink\"").count(), 1);
    }
}
