//! Generates the manual pages: clap's pages of the command line and, for the program itself, the sections that
//! readers of manual pages expect.

use std::io;
use std::path::Path;

use clap::CommandFactory;
use clap_mangen::Man;
use clap_mangen::roff::{Roff, bold, roman};

use crate::cli::args::{Cli, ENVIRONMENT, EXIT_CODES};
use crate::files::user_output;

const FILES: &[(&str, &str)] = &[
    (
        "/var/lib/gpusetup/receipt.json",
        "what was changed here, and all that undo needs; gpusetup-receipt(5)",
    ),
    ("/var/run/cdi/nvidia.yaml", "the CDI spec, made at boot"),
    (
        "/etc/nvidia-container-runtime/config.toml",
        "which containers may ask for GPUs, and how; gpu-container-config(5)",
    ),
];

const SEE_ALSO: &str = "gpu-container-runtime(1), gpu-container-hook(1), gpu-container-cli(1), \
                        gpu-container-config(5), gpusetup-receipt(5), gpu-container-refresh(8)";

/// The page of the program.
pub fn page() -> io::Result<Vec<u8>> {
    let command = Cli::command().after_help(None::<&str>);
    let page = Man::new(command).manual("gpusetup");
    let mut out = Vec::new();
    page.render_title(&mut out)?;
    page.render_name_section(&mut out)?;
    page.render_synopsis_section(&mut out)?;
    section("DESCRIPTION", |roff| {
        roff.text([roman(
            "Looks at the host, shows what it would change, edits the engines' configuration, restarts what \
             needs it, runs a container in each engine, and undoes all of it. Without a command it tells what is \
             here and what to do next. Begin with: gpusetup plan",
        )]);
    })
    .to_writer(&mut out)?;
    page.render_options_section(&mut out)?;
    page.render_subcommands_section(&mut out)?;
    for (name, rows) in [
        ("EXIT STATUS", EXIT_CODES),
        ("ENVIRONMENT", ENVIRONMENT),
        ("FILES", FILES),
    ] {
        section(name, |roff| {
            for (term, says) in rows {
                roff.control("TP", []);
                roff.text([bold(*term)]);
                roff.text([roman(says.replace('\n', " "))]);
            }
        })
        .to_writer(&mut out)?;
    }
    section("SEE ALSO", |roff| {
        roff.text([roman(SEE_ALSO)]);
    })
    .to_writer(&mut out)?;
    Ok(out)
}

/// Writes a page for each command into a directory.
pub fn pages(dir: &Path) -> io::Result<()> {
    let mut program = Cli::command();
    program.build();
    for command in program.get_subcommands() {
        page_of(command, dir)?;
    }
    user_output::write_over(&dir.join("gpusetup.1"), &page()?)
}

/// The page of a command, and the pages of its subcommands.
fn page_of(command: &clap::Command, dir: &Path) -> io::Result<()> {
    let version = concat!("gpusetup ", env!("CARGO_PKG_VERSION"));
    let page = Man::new(command.clone()).manual("gpusetup").source(version);
    let mut out = Vec::new();
    page.render(&mut out)?;
    section("SEE ALSO", |roff| {
        roff.text([roman(
            "gpusetup(1), which has the exit codes and the environment",
        )]);
    })
    .to_writer(&mut out)?;
    user_output::write_over(&dir.join(page.get_filename()), &out)?;
    command
        .get_subcommands()
        .try_for_each(|one| page_of(one, dir))
}

fn section(name: &str, fill: impl FnOnce(&mut Roff)) -> Roff {
    let mut roff = Roff::new();
    roff.control("SH", [name]);
    fill(&mut roff);
    roff
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn the_page_has_the_usual_sections_and_every_command() {
        let page = String::from_utf8(page().unwrap()).unwrap();
        let sections: Vec<&str> = page
            .lines()
            .filter_map(|l| l.strip_prefix(".SH "))
            .map(|name| name.trim_matches('"'))
            .collect();
        assert_eq!(
            sections,
            [
                "NAME",
                "SYNOPSIS",
                "DESCRIPTION",
                "OPTIONS",
                "SUBCOMMANDS",
                "EXIT STATUS",
                "ENVIRONMENT",
                "FILES",
                "SEE ALSO"
            ]
        );
        // A hidden command, which only packages run, has a page of its own but is listed on no other.
        let program = Cli::command();
        for command in program.get_subcommands().filter(|c| !c.is_hide_set()) {
            let name = format!("gpusetup\\-{}", command.get_name());
            assert!(page.contains(&name), "{name}");
        }
    }

    #[test]
    fn every_command_has_a_page_that_leads_to_the_programs() {
        fn count(command: &clap::Command) -> usize {
            1 + command.get_subcommands().map(count).sum::<usize>()
        }
        let dir = tempfile::tempdir().unwrap();
        pages(dir.path()).unwrap();
        let pages: Vec<_> = fs::read_dir(dir.path()).unwrap().collect();
        assert_eq!(pages.len(), count(&Cli::command()));
        let generate = fs::read_to_string(dir.path().join("gpusetup-cdi-generate.1")).unwrap();
        assert!(generate.contains("gpusetup cdi generate"), "{generate}");
        assert!(generate.contains("gpusetup(1)"));
    }

    /// Command lines of gpusetup on a page: lines of its blocks, and code in its sentences.
    fn typed(page: &str) -> Vec<Vec<String>> {
        let mut in_block = false;
        let mut found = Vec::new();
        for line in page.replace("\\\n", " ").lines() {
            let line = line.trim();
            in_block ^= line.starts_with("```");
            let pieces: Vec<&str> = if in_block {
                vec![line]
            } else {
                line.split('`').skip(1).step_by(2).collect()
            };
            let commands = pieces.iter().map(|c| c.trim_start_matches("sudo "));
            let ours = commands.filter(|c| c.starts_with("gpusetup ") && !c.contains('…'));
            found.extend(ours.map(|c| {
                let words = c.split_whitespace().map(str::to_owned);
                let goes_on = |w: &String| !["|", ">", "#", "&&", ";"].contains(&w.as_str());
                words.take_while(goes_on).collect()
            }));
        }
        found
    }

    #[test]
    fn commands_on_the_man_pages_parse() {
        use clap::Parser;
        use clap::error::ErrorKind;

        let refused = |words: &[String]| {
            let error = Cli::try_parse_from(words).err()?.kind();
            [
                ErrorKind::UnknownArgument,
                ErrorKind::InvalidSubcommand,
                ErrorKind::InvalidValue,
            ]
            .contains(&error)
            .then_some(error)
        };
        let top = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        let docs = fs::read_dir(top.join("docs")).unwrap();
        let mut pages: Vec<_> = docs.map(|e| e.unwrap().path()).collect();
        pages.push(top.join("README.md"));
        pages.push(top.join("packaging/README.md"));
        let mut count = 0;
        for page in pages
            .iter()
            .filter(|p| p.extension().is_some_and(|e| e == "md"))
        {
            for words in typed(&fs::read_to_string(page).unwrap()) {
                count += 1;
                assert_eq!(refused(&words), None, "{}: {words:?}", page.display());
            }
        }
        assert!(count > 100, "only {count} were seen");
        for wrong in [
            "gpusetup instal",
            "gpusetup plan --no-such",
            "gpusetup plan --mode no",
        ] {
            assert!(
                refused(&typed(&format!("`{wrong}`"))[0]).is_some(),
                "{wrong}"
            );
        }
    }

    #[test]
    fn help_is_plain_text_that_fits_a_terminal() {
        fn look(command: &mut clap::Command, wrong: &mut Vec<String>) {
            let help = command
                .clone()
                .term_width(80)
                .render_long_help()
                .to_string();
            let lines = help
                .lines()
                .filter(|l| l.contains('`') || l.chars().count() > 80);
            wrong.extend(lines.map(|l| format!("{}: {l}", command.get_name())));
            for one in command.get_subcommands_mut() {
                look(one, wrong);
            }
        }
        let mut wrong = Vec::new();
        look(&mut Cli::command(), &mut wrong);
        assert!(wrong.is_empty(), "{wrong:#?}");
    }
}
