//! The arguments of `simulate`.

use std::{io, net::SocketAddr, path::PathBuf};

use clap::{Args, ValueEnum, builder::PossibleValue};
use tokio_util::sync::CancellationToken;

use super::{Heads, Server, Settings, TlsFiles, fault, fault::Rule, profile::Profile};

const EXAMPLES: &str = "\
Examples:
  # The observation this project is built on: fine with one user, hopeless with fifty
  llm-probe-exporter simulate --profile laptop

  # A GPU server that refuses the 33rd request, with another model name
  llm-probe-exporter simulate --profile 8b-h100 --slots 32 --queue 0 --model granite4

  # Every third answer stalls after five tokens; from the first minute on it gets slower
  llm-probe-exporter simulate --fault 'stall@5 every=3' --fault 'drift=10%/1m from=1m'

  # Ask it something, and let the answer break off
  curl -N localhost:8000/v1/chat/completions -H 'X-Sim-Fault: reset@3' -d '{\"model\": \"simulated\", \"stream\": true,
    \"messages\": [{\"role\": \"user\", \"content\": \"Why is the sky blue?\"}], \"max_tokens\": 16}'

  # When did it really write what, and what went wrong on purpose?
  curl localhost:8000/sim/requests";

/// A simulated inference server to try probes against, without a GPU and without a model.
///
/// It queues, batches and streams as a real one does, in the APIs of OpenAI (chat, completions, responses), Anthropic,
/// Ollama (chat, generate), llama.cpp, Text Generation Inference, Triton and Gemini on one port, over HTTP/1.1 and
/// HTTP/2; it can be told to fail; and it remembers when it really wrote each frame.
#[derive(Args, Clone, Debug)]
#[command(
    after_help = format!("{EXAMPLES}\n\n--help lists the faults."),
    after_long_help = format!("{}\n{EXAMPLES}", fault::help()),
)]
pub struct SimulateArgs {
    /// Address to listen on
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8000")]
    pub listen_address: SocketAddr,

    /// The machine to pretend to be
    #[arg(long, value_name = "NAME", default_value = "laptop")]
    pub profile: Profile,

    /// Requests that are worked on at one time, instead of the profile's
    #[arg(long, value_name = "N", value_parser = at_least_one)]
    pub slots: Option<usize>,

    /// Requests that may wait beyond the slots, instead of the profile's; the next one is answered with 503
    #[arg(long, value_name = "N")]
    pub queue: Option<usize>,

    /// Name of the model; requests for another one are answered with 404
    #[arg(long, value_name = "NAME", default_value = Settings::DEFAULT_MODEL)]
    pub model: String,

    /// Seed of the jitter: the same seed and requests give the same iterations
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub seed: u64,

    /// When the response head of a stream is sent
    #[arg(long, value_name = "WHEN", default_value = "early")]
    pub heads: Heads,

    /// How many times as fast as the profile everything goes
    #[arg(long, value_name = "FACTOR", default_value_t = 1.0, value_parser = speed)]
    pub speed: f64,

    /// Tokens that a word of a prompt is, on average
    #[arg(long, value_name = "N", default_value_t = 1.0, value_parser = tokens_per_word)]
    pub tokens_per_word: f64,

    /// Tokens that the chat template adds to open the answer, beside four a message
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u64).range(..=100_000))]
    pub template_tokens: u64,

    /// Something that goes wrong, and when, like `stall@5 every=3`; may be repeated. --help lists what there is
    #[arg(long = "fault", value_name = "RULE")]
    pub faults: Vec<Rule>,

    /// Certificate chain, PEM: serve TLS only. HTTP/2 is offered beside HTTP/1.1
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    pub tls_cert: Option<PathBuf>,

    /// Key of the certificate, PEM
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    pub tls_key: Option<PathBuf>,
}

impl From<SimulateArgs> for Settings {
    fn from(args: SimulateArgs) -> Self {
        Self {
            profile: args.profile,
            slots: args.slots,
            queue: args.queue,
            seed: args.seed,
            heads: args.heads,
            model: args.model,
            speed: args.speed,
            tokens_per_word: args.tokens_per_word,
            template_tokens: args.template_tokens,
            faults: args.faults,
            tls: args
                .tls_cert
                .zip(args.tls_key)
                .map(|(cert, key)| TlsFiles { cert, key }),
        }
    }
}

/// Serves until `shutdown`. The error names the address.
pub async fn simulate(args: SimulateArgs, shutdown: CancellationToken) -> io::Result<()> {
    let address = args.listen_address;
    let settings = Settings::from(args);
    let machine = settings.machine();
    let model = settings.model.clone();
    let server = Server::bind(address, settings)
        .await
        .map_err(|error| match error.kind() {
            io::ErrorKind::InvalidInput => error,
            kind => io::Error::new(kind, format!("cannot listen on {address}: {error}")),
        })?;
    tracing::info!(
        address = %server.local_addr()?,
        profile = machine.name,
        slots = machine.slots,
        queue = machine.queue,
        model,
        "simulated inference server is listening"
    );
    server.run(shutdown).await
}

fn at_least_one(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(0) | Err(_) => Err("a whole number from 1 on is needed".to_owned()),
        Ok(number) => Ok(number),
    }
}

fn tokens_per_word(text: &str) -> Result<f64, String> {
    text.parse()
        .ok()
        .filter(|tokens: &f64| (0.1..=100.0).contains(tokens))
        .ok_or_else(|| "a number from 0.1 to 100 is needed".to_owned())
}

fn speed(text: &str) -> Result<f64, String> {
    text.parse()
        .ok()
        .filter(|speed: &f64| (0.001..=1000.0).contains(speed))
        .ok_or_else(|| "a number from 0.001 to 1000 is needed".to_owned())
}

impl ValueEnum for Profile {
    fn value_variants<'a>() -> &'a [Self] {
        &Self::ALL
    }

    fn to_possible_value(&self) -> Option<PossibleValue> {
        Some(PossibleValue::new(self.name).help(self.about))
    }
}

impl ValueEnum for Heads {
    fn value_variants<'a>() -> &'a [Self] {
        &[Self::Early, Self::Late]
    }

    fn to_possible_value(&self) -> Option<PossibleValue> {
        Some(match self {
            Self::Early => {
                PossibleValue::new("early").help("as soon as the request has its place in the queue")
            }
            Self::Late => PossibleValue::new("late").help("with the first token"),
        })
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        args: SimulateArgs,
    }

    fn parse(line: &[&str]) -> Result<Settings, clap::Error> {
        Line::try_parse_from([&["simulate"], line].concat()).map(|line| line.args.into())
    }

    #[test]
    fn defaults_are_those_of_the_settings() {
        assert_eq!(parse(&[]).unwrap(), Settings::default());
    }

    #[test]
    fn flags_override_the_profile() {
        let settings = parse(&[
            "--profile",
            "8b-l40s",
            "--slots",
            "4",
            "--queue",
            "0",
            "--heads",
            "late",
            "--speed",
            "10",
        ])
        .unwrap();
        let machine = settings.machine();
        assert_eq!((machine.name, machine.slots, machine.queue), ("8b-l40s", 4, 0));
        assert!((machine.costs.step - Profile::L40S_8B.costs.step / 10.0).abs() < 1e-12);
        assert_eq!(settings.heads, Heads::Late);
    }

    #[test]
    fn faults_and_tls_are_read() {
        let settings = parse(&[
            "--fault",
            "stall@5 every=3",
            "--fault",
            "html",
            "--tls-cert",
            "c.pem",
            "--tls-key",
            "k.pem",
        ])
        .unwrap();
        assert_eq!(
            settings.faults,
            ["stall@5 every=3".parse().unwrap(), "html".parse().unwrap()]
        );
        assert_eq!(settings.tls.unwrap().key, PathBuf::from("k.pem"));
        let error = parse(&["--fault", "stal@5"]).unwrap_err();
        assert_eq!(error.exit_code(), 2);
        assert!(error.to_string().contains("did you mean `stall`"), "{error}");
    }

    #[test]
    fn mistakes_are_refused() {
        for line in [
            ["--tls-cert", "c.pem"],
            ["--tls-key", "k.pem"],
            ["--profile", "desktop"],
            ["--slots", "0"],
            ["--speed", "0"],
            ["--tokens-per-word", "0"],
            ["--template-tokens", "-1"],
            ["--speed", "NaN"],
            ["--heads", "never"],
            ["--listen-address", "localhost"],
        ] {
            assert!(parse(&line).is_err(), "{line:?}");
        }
    }
}
