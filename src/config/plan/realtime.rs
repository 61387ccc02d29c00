//! Whether the threads that measure go before all others of the machine.

/// It holds until the end of the process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Realtime {
    /// Where the process may.
    #[default]
    Auto,
    Off,
    /// Or it does not start.
    Require,
}

impl Realtime {
    /// As the configuration has it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Off => "off",
            Self::Require => "require",
        }
    }
}
