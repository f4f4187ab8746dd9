//! Finds the words that show that a text needs what our packages install: our programs, the vendor's names of them,
//! and the devices that our CDI spec describes.

/// Names of our programs.
pub const PROGRAMS: &[&str] = &[
    "gpu-container-runtime",
    "gpu-container-hook",
    "gpu-container-cli",
    "gpu-container/",
];
/// Names of devices in our CDI spec.
pub const DEVICES: &[&str] = &["nvidia.com/gpu"];
/// Names that gpusetup-nvidia-compat gives our programs.
pub const VENDOR_NAMES: &[&str] = &[
    "nvidia-container-runtime",
    "nvidia-container-toolkit",
    "nvidia-cdi-hook",
    "nvidia-ctk",
];
/// A line with this text names our own directory of programs with the vendor's names, which is not removed with
/// gpusetup-nvidia-compat.
pub const OWN_NAMES: &str = "gpu-container/bin/";

/// The first of these words that a line of the text contains outside comments.
pub fn first<'a>(text: &str, words: &[&'a str]) -> Option<&'a str> {
    lines(text).find_map(|line| words.iter().find(|word| line.contains(*word)).copied())
}

/// The first of the vendor's names that the text contains.
pub fn first_vendor_name(text: &str) -> Option<&'static str> {
    lines(text)
        .filter(|line| !line.contains(OWN_NAMES))
        .find_map(|line| {
            VENDOR_NAMES
                .iter()
                .find(|name| line.contains(*name))
                .copied()
        })
}

fn lines(text: &str) -> impl Iterator<Item = &str> {
    text.lines()
        .filter(|line| !line.trim_start().starts_with(['#', ';']))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_do_not_count() {
        let text =
            "# gpu-container-runtime\n  ; gpu-container-hook\nx = \"/usr/bin/gpu-container-cli\"\n";
        assert_eq!(first(text, PROGRAMS), Some("gpu-container-cli"));
        assert_eq!(first("# nvidia.com/gpu\n", DEVICES), None);
        assert_eq!(
            first("AddDevice=nvidia.com/gpu=all\n", DEVICES),
            Some("nvidia.com/gpu")
        );
        // Only begins like one of our names.
        assert_eq!(first("/opt/gpu-container-mine", PROGRAMS), None);
    }

    #[test]
    fn our_own_directory_of_the_vendor_s_names_is_not_theirs() {
        assert_eq!(
            first_vendor_name("{\"path\": \"nvidia-container-runtime\"}"),
            Some("nvidia-container-runtime")
        );
        assert_eq!(
            first_vendor_name("/usr/lib/gpu-container/bin/nvidia-cdi-hook"),
            None
        );
    }
}
