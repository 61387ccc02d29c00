//! What kind of machine the simulated server pretends to be.

/// What one iteration of the engine costs, in seconds: `step + admission · admitted requests + prefill_token ·
/// prompt tokens + decode · tokens generated + kv_token · tokens resident in the KV cache`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Costs {
    /// t0: reading the weights, launching the kernels.
    pub step: f64,
    /// Per request that gets its slot in this iteration: its template, tokenisation and clearing the slot.
    pub admission: f64,
    /// a: per prompt token.
    pub prefill_token: f64,
    /// b: per request that generates a token.
    pub decode: f64,
    /// c: per token in the KV cache, which attention reads in each iteration.
    pub kv_token: f64,
}

/// A machine and its model.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Profile {
    pub name: &'static str,
    /// One line for `--help`.
    pub about: &'static str,
    /// Requests in the batch at most (vLLM's `max_num_seqs`, Ollama's `OLLAMA_NUM_PARALLEL`).
    pub slots: usize,
    /// Requests that may wait beyond the slots; the next one is refused.
    pub queue: usize,
    /// Tokens per iteration at most (vLLM's `max_num_batched_tokens`): longer prompts are prefilled in chunks.
    pub token_budget: u64,
    /// Tokens that the KV cache holds. A request waits until its prompt and its whole output fit.
    pub kv_capacity: u64,
    /// Prompt and output of one request at most.
    pub context: u64,
    pub costs: Costs,
    /// Whether it can be asked how many tokens a prompt has, as vLLM can.
    pub tokenizes: bool,
    /// Sigma of the lognormal factor on each iteration, whose mean is 1.
    pub jitter: f64,
}

impl Profile {
    /// The observation that this project is built on: a 350 M model on a laptop, one request at a time. One user
    /// waits 223 ms for the first token and 10 ms for each further one; the last of 50 waits 41.7 s, still
    /// with 10 ms after that. 49 · (0.22 + 63 · 0.010) s + 0.22 s = 41.9 s for answers of 64 tokens. Most of
    /// the 0.22 s (200 ms for a prompt of 30 tokens, 260 ms for 130) does not depend on the prompt.
    pub const LAPTOP: Self = Self {
        name: "laptop",
        about: "a small model, one request at a time: TTFT 220 ms alone, 42 s for the last of 50 users",
        slots: 1,
        queue: 512, // OLLAMA_MAX_QUEUE
        token_budget: 2048,
        kv_capacity: 32_768,
        context: 32_768,
        tokenizes: false,
        costs: Costs {
            step: 8.5e-3,
            admission: 172e-3,
            prefill_token: 0.6e-3,
            decode: 1e-3,
            kv_token: 4e-6,
        },
        jitter: 0.04,
    };

    /// An 8 B model in BF16 on one H100 SXM, as vLLM would run it. Derived from the data sheet, not measured:
    /// 16 GB of weights at 80 % of 3.35 TB/s are 6 ms a step; 16 GFLOP a token at half of 989 TFLOP/s are 33 µs;
    /// 128 KiB of KV a token (8 heads of 128, 32 layers, BF16) at 70 % of the bandwidth are 56 ns;
    /// 90 % of 80 GB less weights and activations hold about 400,000 tokens. `decode` (sampling,
    /// detokenising, scheduling) is chosen: 256 users with 1,000 tokens each then get 7,700 tokens/s together.
    pub const H100_8B: Self = Self {
        name: "8b-h100",
        about: "an 8 B model in BF16 on an H100: 256 slots, ITL 6 ms alone, 34 ms when full",
        slots: 256,
        queue: 1024,
        token_budget: 8192,
        kv_capacity: 400_000,
        context: 131_072,
        tokenizes: true,
        costs: Costs {
            step: 6e-3,
            admission: 0.0,
            prefill_token: 33e-6,
            decode: 50e-6,
            kv_token: 56e-9,
        },
        jitter: 0.05,
    };

    /// The same model on one L40S: 864 GB/s (21 ms a step at 88 %), 362 TFLOP/s BF16 (88 µs a token at half),
    /// 48 GB, of which the KV cache gets 24 (180,000 tokens; 200 ns each to read).
    pub const L40S_8B: Self = Self {
        name: "8b-l40s",
        about: "an 8 B model in BF16 on an L40S: 64 slots, ITL 21 ms alone, 38 ms when full",
        slots: 64,
        queue: 1024,
        token_budget: 2048,
        kv_capacity: 180_000,
        context: 65_536,
        tokenizes: true,
        costs: Costs {
            step: 21e-3,
            admission: 0.0,
            prefill_token: 88e-6,
            decode: 70e-6,
            kv_token: 200e-9,
        },
        jitter: 0.05,
    };

    /// Every profile, in the order in which `--help` lists them.
    pub const ALL: [Self; 3] = [Self::LAPTOP, Self::H100_8B, Self::L40S_8B];

    /// The same machine, `speed` times as fast in everything, so that tests need not wait.
    #[must_use]
    pub fn faster(self, speed: f64) -> Self {
        let Costs {
            step,
            admission,
            prefill_token,
            decode,
            kv_token,
        } = self.costs;
        Self {
            costs: Costs {
                step: step / speed,
                admission: admission / speed,
                prefill_token: prefill_token / speed,
                decode: decode / speed,
                kv_token: kv_token / speed,
            },
            ..self
        }
    }
}
