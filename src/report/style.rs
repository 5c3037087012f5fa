//! How results are reported.

use crate::outcome::{ExitCodes, Health};

/// How results are reported. It is known before everything else, so that every failure has this form.
#[derive(Debug, Clone, Copy)]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag of its own")]
pub struct Style {
    pub(crate) exit_codes: ExitCodes,
    /// `-output json`.
    pub(crate) json: bool,
    /// `-q`: nothing when healthy.
    pub(crate) quiet: bool,
    /// `-v`: the options, then each step.
    pub(crate) verbose: bool,
    /// `-alive`: whether the server is alive decides.
    pub(crate) alive: bool,
}

impl Style {
    /// The style until the user's options are known, except that the user may ask for JSON already.
    #[must_use]
    pub fn initial(json: bool) -> Self {
        Self { exit_codes: ExitCodes::Docker, json, quiet: false, verbose: false, alive: false }
    }

    /// Whether to report each step, too.
    #[must_use]
    pub fn is_verbose(self) -> bool {
        self.verbose
    }

    /// The exit code for the health of the probe.
    #[must_use]
    pub fn exit_code(self, health: Health) -> u8 {
        self.exit_codes.code(health)
    }
}
