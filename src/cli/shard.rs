//! Which shard this is.

use anyhow::anyhow;
use clap::Args;

use super::CliError;
use crate::shard::{Shard, ordinal};

#[derive(Args, Clone, Debug)]
pub(super) struct ShardArgs {
    /// Which shard this is, from 0: of several exporters with the same configuration each runs a part of the probes at
    /// their targets, and all together each of them once.
    #[arg(
        long = "shard.index",
        value_name = "I",
        env = "LLM_PROBE_SHARD_INDEX",
        conflicts_with = "from_hostname"
    )]
    index: Option<u32>,

    /// How many shards there are.
    #[arg(long = "shard.total", value_name = "N", env = "LLM_PROBE_SHARD_TOTAL")]
    total: Option<u32>,

    /// Take the index from the end of the host name, as the pods of a `StatefulSet` have it: that of `prober-2` is 2.
    #[arg(long = "shard.from-hostname")]
    from_hostname: bool,
}

impl ShardArgs {
    pub(super) fn shard(&self) -> Result<Shard, CliError> {
        let host_name = || rustix::system::uname().nodename().to_string_lossy().into_owned();
        self.of_host(host_name).map_err(CliError::usage)
    }

    fn of_host(&self, host_name: impl Fn() -> String) -> anyhow::Result<Shard> {
        let (index, said) = match (self.index, self.from_hostname) {
            (Some(index), _) => (Some(index), format!("--shard.index={index}")),
            (None, true) => {
                let name = host_name();
                let index = ordinal(&name).ok_or_else(|| {
                    anyhow!(
                        "--shard.from-hostname: the host name `{}` does not end in a number, as `prober-2` does; \
                         run it in a StatefulSet, or write --shard.index",
                        name.escape_debug()
                    )
                })?;
                let said = format!(
                    "--shard.from-hostname: index {index} of `{}`",
                    name.escape_debug()
                );
                (Some(index), said)
            }
            (None, false) => (None, String::new()),
        };
        match (index, self.total) {
            (None, None | Some(1)) => Ok(Shard::default()),
            (None, Some(total)) => Err(anyhow!(
                "--shard.total={total} does not say which of them this is; write --shard.index or --shard.from-hostname"
            )),
            (Some(_), None) => Err(anyhow!(
                "{said} does not say how many shards there are; write --shard.total"
            )),
            (Some(index), Some(total)) => Shard::new(index, total).ok_or_else(|| {
                anyhow!(
                    "{said} is not below --shard.total={total}; shards are counted from 0: give --shard.total their number"
                )
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said_of_shards_has_to_be_whole() {
        let shard = |index: Option<u32>, total: Option<u32>, from_hostname: bool, host: &str| {
            let args = ShardArgs {
                index,
                total,
                from_hostname,
            };
            args.of_host(|| host.to_owned())
                .map(|shard| shard.to_string())
                .map_err(|error| error.to_string())
        };
        for (said, expected) in [
            (shard(None, None, false, "prober-1"), Ok("0 of 1")),
            (shard(None, Some(1), false, ""), Ok("0 of 1")),
            (shard(Some(2), Some(3), false, ""), Ok("2 of 3")),
            (shard(None, Some(3), true, "prober-2"), Ok("2 of 3")),
            (shard(None, Some(3), false, ""), Err("does not say which")),
            (shard(Some(2), None, false, ""), Err("write --shard.total")),
            (shard(None, None, true, "prober-2"), Err("write --shard.total")),
            (
                shard(Some(3), Some(3), false, ""),
                Err("--shard.index=3 is not below --shard.total=3"),
            ),
            (
                shard(Some(0), Some(0), false, ""),
                Err("is not below --shard.total=0"),
            ),
            (
                shard(None, Some(2), true, "prober-2"),
                Err("index 2 of `prober-2` is not below"),
            ),
            (
                shard(None, Some(2), true, "laptop"),
                Err("`laptop` does not end in a number"),
            ),
        ] {
            match (&said, expected) {
                (Ok(shard), Ok(expected)) => assert_eq!(shard, expected),
                (Err(error), Err(part)) => assert!(error.contains(part), "{error}"),
                _ => panic!("{said:?} and not {expected:?}"),
            }
        }
    }
}
