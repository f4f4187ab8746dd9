//! `NVIDIA_REQUIRE_*`: what an image requires of the host.
//!
//! Grammar (libnvidia-container `src/cli/dsl.c`): alternatives separated by spaces,
//! each a comma list of conditions that must all hold; a condition is
//! `property` `operator` `value`.

use std::cmp::Ordering;

use gpu_host::{Gpu, Inventory};

use crate::error::Error;

/// Longest first, so that `>=` is not read as `>`.
const OPERATORS: [&str; 6] = [">=", "<=", "!=", "=", ">", "<"];

/// Checks every requirement against the host and the GPUs the container gets. What the
/// host cannot tell (the CUDA version without NVML) counts as met.
pub fn check(requirements: &[String], inventory: &Inventory, gpus: &[&Gpu]) -> Result<(), Error> {
    for requirement in requirements {
        let mut alternatives = requirement.split_whitespace().peekable();
        if alternatives.peek().is_none() {
            continue;
        }
        let mut met = false;
        for alternative in alternatives {
            let mut all = true;
            for condition in alternative.split(',').filter(|c| !c.is_empty()) {
                all &= holds(condition, inventory, gpus)?;
            }
            met |= all;
        }
        if !met {
            return Err(Error::Requirement {
                requirement: requirement.clone(),
                has: has(inventory),
            });
        }
    }
    Ok(())
}

fn has(inventory: &Inventory) -> String {
    let driver = inventory.driver.as_ref();
    let version = driver.map_or("none", |d| d.version.as_str());
    match driver.and_then(|d| d.cuda) {
        Some((major, minor)) => format!("driver {version}, cuda {major}.{minor}"),
        None => format!("driver {version}"),
    }
}

fn holds(condition: &str, inventory: &Inventory, gpus: &[&Gpu]) -> Result<bool, Error> {
    let bad = || Error::BadRequirement(condition.to_owned());
    let (property, operator, value) = OPERATORS
        .iter()
        .filter_map(|op| condition.split_once(op).map(|(p, v)| (p, *op, v)))
        .min_by_key(|(p, op, _)| (p.len(), std::cmp::Reverse(op.len())))
        .ok_or_else(bad)?;
    let (property, value) = (property.trim(), value.trim());
    if value.is_empty() {
        return Err(bad());
    }
    let driver = inventory.driver.as_ref();
    let pair = |(major, minor): (u32, u32)| format!("{major}.{minor}");
    match property {
        "cuda" => match driver.and_then(|d| d.cuda) {
            Some(cuda) => versions(&pair(cuda), operator, value).ok_or_else(bad),
            None => Ok(true),
        },
        "driver" => match driver {
            Some(driver) => versions(&driver.version, operator, value).ok_or_else(bad),
            None => Ok(false),
        },
        "arch" => every(gpus, |g| match g.compute_capability {
            Some(arch) => versions(&pair(arch), operator, value).ok_or_else(bad),
            None => Ok(true),
        }),
        "brand" => every(gpus, |g| {
            let Some(brand) = &g.brand else {
                return Ok(true);
            };
            let same = brand.eq_ignore_ascii_case(value);
            match operator {
                "=" => Ok(same),
                "!=" => Ok(!same),
                _ => Err(bad()),
            }
        }),
        _ => Err(bad()),
    }
}

fn every(gpus: &[&Gpu], test: impl Fn(&Gpu) -> Result<bool, Error>) -> Result<bool, Error> {
    for gpu in gpus {
        if !test(gpu)? {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Compares number by number, as many as the requirement gives: 580.65.06 = 580.
fn versions(has: &str, operator: &str, wanted: &str) -> Option<bool> {
    let numbers =
        |text: &str| -> Option<Vec<u32>> { text.split('.').map(|n| n.parse().ok()).collect() };
    let wanted = numbers(wanted)?;
    let mut has = numbers(has)?;
    has.resize(wanted.len(), 0);
    let order = has.cmp(&wanted);
    Some(match operator {
        ">=" => order != Ordering::Less,
        "<=" => order != Ordering::Greater,
        ">" => order == Ordering::Greater,
        "<" => order == Ordering::Less,
        "=" => order == Ordering::Equal,
        _ => order != Ordering::Equal,
    })
}

#[cfg(test)]
mod tests {
    use gpu_host::Driver;
    use proptest::prelude::*;

    use super::*;

    fn met(requirement: &str) -> Result<(), Error> {
        let inventory = Inventory {
            driver: Some(Driver {
                version: "580.65.06".into(),
                cuda: Some((13, 0)),
                files: Vec::new(),
            }),
            ..Inventory::default()
        };
        check(&[requirement.to_owned()], &inventory, &[])
    }

    #[test]
    fn conditions_and_alternatives() {
        for good in [
            "cuda>=12.4",
            "driver=580",
            "cuda<12 driver>=570,driver<600",
            "",
            "brand=tesla",
            "cuda!=12.0",
        ] {
            met(good).unwrap();
        }
        for unmet in [
            "cuda>=13.1",
            "driver<580",
            "cuda<12 driver>600",
            "cuda>=12,driver>=600",
        ] {
            assert!(
                matches!(met(unmet), Err(Error::Requirement { .. })),
                "{unmet}"
            );
        }
        for bad in ["cuda", "cuda>=", "cuda>=x", "gpu>=1", "cuda=>12"] {
            assert!(matches!(met(bad), Err(Error::BadRequirement(_))), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn no_text_panics(text: String) {
            let _ = met(&text);
        }
    }
}
