//! Checks `NVIDIA_REQUIRE_*`: what an image requires of the host.
//!
//! The language is that of libnvidia-container (`src/cli/dsl.c`), including its quirks, since
//! images rely on them. A requirement is a list of alternatives separated by spaces; each is a
//! comma-separated list of conditions that must all hold; a condition is `name` `operator`
//! `value` without spaces. It is parsed while it is evaluated, so text after the result is known
//! is not checked for syntax.

use std::cmp::Ordering;

use gpu_host::{Gpu, Inventory};

use crate::error::Error;

/// The operators. The operator characters in a condition are looked up as a prefix of one of
/// these, in this order: `!` alone means `!=`, and `==` is invalid.
const OPERATORS: [&str; 6] = ["=", "!=", "<", "<=", ">", ">="];

/// A condition that does not hold and is longer than this counts as invalid (`EXPR_MAX`). The
/// length includes a space on each side of the operator.
const MAX_CONDITION: usize = 127;

/// Ensures that the host meets every requirement. Each is checked once for every GPU that the
/// container gets, or once without a GPU if it gets none. A condition on an unknown property, such
/// as the CUDA version without NVML, counts as met.
pub fn ensure_met(
    requirements: &[String],
    inventory: &Inventory,
    gpus: &[&Gpu],
) -> Result<(), Error> {
    let each: Vec<Option<&Gpu>> = if gpus.is_empty() {
        vec![None]
    } else {
        gpus.iter().copied().map(Some).collect()
    };
    for requirement in requirements {
        for gpu in &each {
            if !is_met(requirement, inventory, *gpu)? {
                let first = requirement.split(' ').find(|a| !a.is_empty());
                return Err(Error::Requirement {
                    condition: first.unwrap_or_default().into(),
                    has: has(inventory, *gpu),
                });
            }
        }
    }
    Ok(())
}

fn is_met(requirement: &str, inventory: &Inventory, gpu: Option<&Gpu>) -> Result<bool, Error> {
    let mut met = true;
    for alternative in requirement.split(' ').filter(|a| !a.is_empty()) {
        // An alternative that consists only of commas ends the search with the result so far.
        let mut all_hold = true;
        for condition in alternative.split(',').filter(|c| !c.is_empty()) {
            met = is_condition_met(condition, inventory, gpu)?;
            if !met {
                all_hold = false;
                break;
            }
        }
        if all_hold {
            break;
        }
    }
    Ok(met)
}

fn has(inventory: &Inventory, gpu: Option<&Gpu>) -> String {
    let driver = inventory.driver.as_ref();
    let mut text = match driver {
        Some(driver) => format!("this host has driver {}", driver.version),
        None => "this host has no driver".to_owned(),
    };
    if let Some((major, minor)) = driver.and_then(|d| d.cuda) {
        text += &format!(", cuda {major}.{minor}");
    }
    if let Some((major, minor)) = gpu.and_then(|g| g.compute_capability) {
        text += &format!(", arch {major}.{minor}");
    }
    if let Some(brand) = gpu.and_then(|g| g.brand.as_deref()) {
        text += &format!(", brand {brand}");
    }
    text
}

fn is_condition_met(
    condition: &str,
    inventory: &Inventory,
    gpu: Option<&Gpu>,
) -> Result<bool, Error> {
    let bad = || Error::BadRequirement(condition.into());
    let is_operator = |c: char| "<>=!".contains(c);
    let at = condition
        .find(is_operator)
        .filter(|at| *at > 0)
        .ok_or_else(bad)?;
    let (name, rest) = condition.split_at(at);
    let value = rest.trim_start_matches(is_operator);
    let run = rest.strip_suffix(value).unwrap_or(rest);
    let operator = OPERATORS
        .into_iter()
        .find(|o| o.starts_with(run))
        .filter(|_| !value.is_empty())
        .ok_or_else(bad)?;
    let driver = inventory.driver.as_ref();
    let pair = |(major, minor): (u32, u32)| format!("{major}.{minor}");
    let holds = match name.to_ascii_lowercase().as_str() {
        "cuda" => compare_to(driver.and_then(|d| d.cuda).map(pair), operator, value),
        "driver" => {
            // The version is unknown on some WSL and Tegra hosts.
            let version = driver.map(|d| d.version.clone()).filter(|v| !v.is_empty());
            compare_to(version, operator, value)
        }
        "arch" => compare_to(
            gpu.and_then(|g| g.compute_capability).map(pair),
            operator,
            value,
        ),
        "brand" => match (gpu.and_then(|g| g.brand.as_deref()), operator) {
            (None, _) => Some(true),
            (Some(brand), "=") => Some(brand.eq_ignore_ascii_case(value)),
            (Some(brand), "!=") => Some(!brand.eq_ignore_ascii_case(value)),
            _ => None,
        },
        _ => None,
    }
    .ok_or_else(bad)?;
    if !holds && name.len() + operator.len() + value.len() + 2 > MAX_CONDITION {
        return Err(bad());
    }
    Ok(holds)
}

/// Compares versions. True if the host's is unknown; `None` if one is not a dotted number.
fn compare_to(has: Option<String>, operator: &str, required: &str) -> Option<bool> {
    let Some(has) = has else {
        return Some(true);
    };
    let order = versions(&has, required)?;
    Some(match operator {
        ">=" => order != Ordering::Less,
        "<=" => order != Ordering::Greater,
        ">" => order == Ordering::Greater,
        "<" => order == Ordering::Less,
        "=" => order == Ordering::Equal,
        _ => order != Ordering::Equal,
    })
}

/// Compares versions number by number. If one is longer, it is greater unless its additional
/// numbers are all zero. `None` if one is not a dotted number.
pub(crate) fn versions(mut left: &str, mut right: &str) -> Option<Ordering> {
    let is_version = |text: &str| text.bytes().all(|b| b.is_ascii_digit() || b == b'.');
    if !is_version(left) || !is_version(right) {
        return None;
    }
    while !left.is_empty() && !right.is_empty() {
        let order = number(&mut left)?.cmp(&number(&mut right)?);
        if order.is_ne() {
            return Some(order);
        }
    }
    let is_nonzero = |rest: &str| !rest.trim_start_matches(['.', '0']).is_empty();
    Some(is_nonzero(left).cmp(&is_nonzero(right)))
}

/// Removes a number and the dots after it from the start of the text.
fn number(text: &mut &str) -> Option<u64> {
    let end = text
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(text.len());
    let (digits, rest) = text.split_at(end);
    *text = rest.trim_start_matches('.');
    digits.parse().ok().filter(|n| *n != u64::MAX)
}

#[cfg(test)]
mod tests {
    use gpu_host::{DeviceNode, Driver, PciAddress};
    use proptest::prelude::*;

    use super::*;

    fn host() -> Inventory {
        let gpu = |index, brand: &str, arch| Gpu {
            index,
            minor: index,
            uuid: None,
            name: None,
            brand: Some(brand.into()),
            compute_capability: Some(arch),
            pci: PciAddress::default(),
            node: DeviceNode {
                path: "/dev/nvidia0".into(),
                host_path: "/dev/nvidia0".into(),
                major: 195,
                minor: index,
                mode: 0o666,
                uid: 0,
                gid: 0,
            },
            drm: Vec::new(),
            drm_links: Vec::new(),
            mig_enabled: false,
            mig: Vec::new(),
        };
        Inventory {
            driver: Some(Driver {
                version: "580.65.06".into(),
                cuda: Some((13, 0)),
                files: Vec::new(),
            }),
            gpus: vec![gpu(0, "Tesla", (9, 0)), gpu(1, "GeForce", (8, 6))],
            ..Inventory::default()
        }
    }

    /// Checks a requirement on a host with two GPUs, for a container that gets the first.
    fn met(requirement: &str) -> Result<(), Error> {
        let host = host();
        ensure_met(&[requirement.to_owned()], &host, &[&host.gpus[0]])
    }

    fn is_met(requirement: &str) {
        met(requirement).unwrap_or_else(|e| panic!("{requirement}: {e}"));
    }

    fn is_unmet(requirement: &str) {
        let answer = met(requirement);
        assert!(
            matches!(answer, Err(Error::Requirement { .. })),
            "{requirement}: {answer:?}"
        );
    }

    fn is_bad(requirement: &str) {
        let answer = met(requirement);
        assert!(
            matches!(answer, Err(Error::BadRequirement(_))),
            "{requirement}: {answer:?}"
        );
    }

    #[test]
    fn spaces_are_or_and_commas_are_and() {
        is_met("cuda>=12.4");
        is_met("cuda<12 driver>=570,driver<600");
        is_met("cuda>=11.6 brand=tesla,driver>=418,driver<419");
        is_met("brand=geforce  ,,brand=tesla,,arch>=9.0,");
        is_met("");
        is_met("  ");
        is_unmet("cuda>=13.1");
        is_unmet("cuda<12 driver>600");
        is_unmet("cuda>=12,driver>=600");
    }

    #[test]
    fn versions_compare_number_by_number() {
        is_met("cuda=13");
        is_met("cuda=13.0.0");
        is_met("cuda>=13.00");
        is_unmet("cuda=13.0.1");
        // A longer version is greater, so the driver's major alone is not equal to its version.
        is_unmet("driver=580");
        is_met("driver>580");
        is_met("driver=580.65.6");
        is_met("driver>=580.9");
        is_bad("driver>=580.x");
        is_bad("cuda>=18446744073709551615");
    }

    #[test]
    fn an_operator_is_any_prefix_of_one() {
        is_met("cuda!12");
        is_met("cuda!=12");
        for bad in ["cuda==13", "cuda=>12", "cuda=<14", "cuda<>12", "cuda>>1"] {
            is_bad(bad);
        }
    }

    #[test]
    fn names_and_brands_in_any_case_and_no_other_name() {
        is_met("CUDA>=12,Brand=TESLA,aRCH>=9");
        is_met("brand!=quadro");
        is_unmet("brand!=tesla");
        for bad in [
            "cuda",
            "cuda>=",
            ">=12",
            "gpu>=1",
            "brand>=tesla",
            "cuda >=12",
        ] {
            is_bad(bad);
        }
    }

    #[test]
    fn a_condition_on_an_unknown_property_counts_as_met() {
        let mut host = host();
        host.driver = None;
        for gpu in &mut host.gpus {
            gpu.brand = None;
            gpu.compute_capability = None;
        }
        for requirement in [
            "cuda>=99",
            "driver>=999",
            "arch>=99",
            "brand=odd",
            "brand>odd",
            "cuda>=x",
        ] {
            let list = [requirement.to_owned()];
            ensure_met(&list, &host, &[&host.gpus[0]]).unwrap();
            ensure_met(&list, &host, &[]).unwrap();
        }
        host.driver = Some(gpu_host::Driver::default());
        ensure_met(&["driver>=999".to_owned()], &host, &[]).unwrap();
    }

    #[test]
    fn parsing_stops_once_the_result_is_known() {
        is_met("cuda>=12 odd");
        is_met("cuda<12,odd cuda>=12");
        is_bad("cuda<12 odd");
        is_unmet("cuda<12 ,");
    }

    #[test]
    fn every_gpu_of_the_container_must_meet_every_requirement() {
        let host = host();
        let both: Vec<&Gpu> = host.gpus.iter().collect();
        let check = |list: &[&str]| {
            let list: Vec<String> = list.iter().map(|r| (*r).to_owned()).collect();
            ensure_met(&list, &host, &both)
        };
        check(&["brand=tesla brand=geforce", "arch>=8"]).unwrap();
        assert!(check(&["brand=tesla"]).is_err());
        assert!(check(&["arch>=8", "arch>=9"]).is_err());
    }

    #[test]
    fn the_error_says_the_first_alternative_and_what_the_host_has() {
        let message = |r: &str| met(r).unwrap_err().to_string();
        let text = message("cuda>=13.1 brand=tesla,driver<419");
        assert!(
            text.starts_with(
                "requirement error: unsatisfied condition: cuda>=13.1, please update your driver to a newer version, or use an earlier cuda container"
            ),
            "{text}"
        );
        for part in [
            "driver 580.65.06",
            "cuda 13.0",
            "arch 9.0",
            "brand Tesla",
            "NVIDIA_DISABLE_REQUIRE",
        ] {
            assert!(text.contains(part), "{text}");
        }
        let text = message(" driver<580 cuda>=14");
        assert!(
            text.starts_with("requirement error: unsatisfied condition: driver<580 ("),
            "{text}"
        );
        assert!(message("odd=1").starts_with("requirement error: invalid expression"));
    }

    #[test]
    fn an_unmet_condition_longer_than_libnvidia_containers_buffer_is_invalid() {
        is_met(&format!("cuda>={}12", "0".repeat(130)));
        is_unmet(&format!("cuda>={}99", "0".repeat(100)));
        is_bad(&format!("cuda>={}99", "0".repeat(130)));
    }

    proptest! {
        #[test]
        fn no_text_panics(text: String) {
            let _ = met(&text);
        }

        #[test]
        fn comparing_is_antisymmetric(a in "[0-3.]{0,8}", b in "[0-3.]{0,8}") {
            if let (Some(ab), Some(ba)) = (versions(&a, &b), versions(&b, &a)) {
                prop_assert_eq!(ab, ba.reverse());
            }
        }
    }
}
