//! The contents: the model's answers, which are cached, and the log records.

use crate::models::Model;
use crate::money::Picos;
use crate::workload::{ApiKey, Request};
use fastrand::Rng;
use serde_json::json;

const WORDS: [&str; 32] = [
    "the",
    "request",
    "is",
    "answered",
    "by",
    "a",
    "model",
    "that",
    "reads",
    "every",
    "token",
    "of",
    "its",
    "context",
    "and",
    "writes",
    "one",
    "more",
    "until",
    "it",
    "stops",
    "so",
    "latency",
    "grows",
    "with",
    "length",
    "while",
    "caches",
    "help",
    "for",
    "repeated",
    "questions",
];

/// English has about three words to four tokens.
const WORDS_PER_TOKEN: (u32, u32) = (3, 4);

/// The hexadecimal name of a prompt, in place of its hash.
fn fingerprint(prompt: u64) -> String {
    format!("{:016x}", Rng::with_seed(prompt).u64(..))
}

/// The cache key, equal for equal models and prompts. The part before the colon is the cache's category.
pub fn cache_key(model: &Model, request: &Request) -> String {
    format!("chat:{}:{}", model.name, fingerprint(request.prompt))
}

/// The model's answer, in the form of the chat completions API.
pub fn response(model: &Model, request: &Request) -> String {
    let words = request.generated_tokens * WORDS_PER_TOKEN.0 / WORDS_PER_TOKEN.1;
    json!({
        "id": response_id(request),
        "object": "chat.completion",
        "model": model.name,
        "choices": [{
            "index": 0,
            "message": {"role": "assistant", "content": text(request.prompt, words.max(1))},
            "finish_reason": "stop",
        }],
        "usage": {
            "prompt_tokens": request.context_tokens,
            "completion_tokens": request.generated_tokens,
            "total_tokens": request.tokens(),
        },
    })
    .to_string()
}

/// The id of an answer to this prompt, which is part of the answer's text.
pub fn response_id(request: &Request) -> String {
    format!("chatcmpl-{}", fingerprint(request.prompt))
}

/// The record of one admitted request, about 1 KB of JSON. `id` is the request's index in the workload.
pub fn log_record(id: usize, model: &Model, key: &ApiKey, request: &Request, cached: bool) -> String {
    const EXCERPT_WORDS: u32 = 60;
    let (latency_ms, cost) = match cached {
        true => (0, Picos::default()),
        false => (request.model_time().as_millis() as u64, request.cost),
    };
    json!({
        "id": id,
        "call_type": "chat.completion",
        "time_ms": request.at.as_millis() as u64,
        "latency_ms": latency_ms,
        "api_key": key.account,
        "model": model.name,
        "response_id": response_id(request),
        "status": "success",
        "cost": cost.to_string(),
        "usage": {"prompt_tokens": request.context_tokens, "completion_tokens": request.generated_tokens},
        "messages": [{"role": "user", "content": text(!request.prompt, EXCERPT_WORDS)}],
        "response": text(request.prompt, request.generated_tokens.min(EXCERPT_WORDS)),
        "metadata": {"cache_hit": cached, "retries": 0, "stream": true, "route": "/v1/chat/completions"},
    })
    .to_string()
}

fn text(seed: u64, words: u32) -> String {
    let mut rng = Rng::with_seed(seed);
    let mut text = String::with_capacity(words as usize * 8);
    for _ in 0..words {
        text.push_str(rng.choice(WORDS).unwrap_or_default());
        text.push(' ');
    }
    text.truncate(text.trim_end().len());
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trace;
    use crate::workload::Workload;
    use serde_json::Value;

    #[test]
    fn answers_and_records_are_json_of_a_realistic_size() {
        let workload = Workload::new(&trace::generate(2_000, 1), Model::all().unwrap(), 1);
        let mut bytes = (0, 0);
        for (id, request) in workload.requests.iter().enumerate() {
            let (model, key) = (&workload.models[request.model], workload.key(request));
            let answer = response(model, request);
            let parsed: Value = serde_json::from_str(&answer).unwrap();
            assert_eq!(parsed["id"], response_id(request));
            let record = log_record(id, model, key, request, false);
            let parsed: Value = serde_json::from_str(&record).unwrap();
            assert_eq!(parsed["id"], id);
            assert_eq!(parsed["cost"], request.cost.to_string());
            let hit: Value = serde_json::from_str(&log_record(id, model, key, request, true)).unwrap();
            assert_eq!((&hit["cost"], &hit["metadata"]["cache_hit"]), (&"0".into(), &true.into()));
            bytes = (bytes.0 + answer.len(), bytes.1 + record.len());
        }
        let count = workload.requests.len();
        let mean = (bytes.0 / count, bytes.1 / count);
        assert!((800..2_000).contains(&mean.0) && (900..1_300).contains(&mean.1), "{mean:?}");
    }

    #[test]
    fn equal_prompts_share_a_key_and_others_do_not() {
        let workload = Workload::new(&trace::generate(2_000, 1), Model::all().unwrap(), 1);
        let key = |request: &Request| cache_key(&workload.models[request.model], request);
        for pair in workload.requests.windows(2) {
            let same = (pair[0].model, pair[0].prompt) == (pair[1].model, pair[1].prompt);
            assert_eq!(key(&pair[0]) == key(&pair[1]), same);
        }
    }
}
