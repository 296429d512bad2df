//! What an operator may write, and what is said to the rest.

use super::*;

fn vault() -> Vault {
    let named = [("OPENAI_API_KEY", "sk-one"), ("OWN", " sk-two\n"), ("BAD", "a\nb")];
    Vault::new(named.map(|(name, value)| (name.to_owned(), value.to_owned())).into())
}

fn table(text: &str) -> Result<Settings, String> {
    let grant = Grant::Table { table: text.parse().unwrap(), file: "reenact.toml".into() };
    Settings::open(&grant, &vault()).map_err(|error| error.to_string())
}

fn flag(model: &str) -> Result<Settings, String> {
    Settings::open(&Grant::Flag(model.into()), &vault()).map_err(|error| error.to_string())
}

#[test]
fn a_flag_is_enough_for_a_provider_that_everybody_knows() {
    let settings = flag("openai:gpt-5-mini").unwrap();
    let model = settings.model(None).unwrap();
    assert_eq!((model.id, model.name), ("openai:gpt-5-mini", "gpt-5-mini"));
    assert_eq!(model.provider.base_url.as_str(), "https://api.openai.com/v1/");
    assert!(model.provider.key.is_some());
    assert!(flag("ollama:qwen3").unwrap().model(None).unwrap().provider.key.is_none());

    let settings = flag("openai:*").unwrap();
    assert_eq!(settings.model(Some("openai:o9")).unwrap().name, "o9");
    let error = settings.model(None).unwrap_err();
    assert_eq!(error, "`model` must be given, because there is no default: `openai:*`");
    let error = settings.model(Some("ollama:qwen3")).unwrap_err();
    assert_eq!(error, "the model `ollama:qwen3` is not granted, only `openai:*`");
}

#[test]
fn a_table_says_more() {
    let settings = table(
        r#"default = "openai:gpt-5-mini"
        models = ["openai:*", "local:qwen3"]
        [providers.openai]
        [providers.local]
        adapter = "openai"
        base_url = "http://127.0.0.1:8080/v1"
        key = "OWN"
        [prices]
        "openai:*" = { input = 1, output = 2 }
        "openai:gpt-5*" = { input = 3, output = 4 }
        "openai:gpt-5-mini" = { input = 0.25, output = 2.0 }"#,
    )
    .unwrap();
    let local = settings.model(Some("local:qwen3")).unwrap();
    assert_eq!(local.provider.base_url.as_str(), "http://127.0.0.1:8080/v1/");
    assert_eq!(local.price, None);
    let (header, value) = local.provider.key.as_ref().unwrap();
    assert_eq!((header.as_str(), value.as_bytes()), ("authorization", &b"Bearer sk-two"[..]));
    assert!(!format!("{settings:?}").contains("sk-"), "{settings:?}");
    for (model, input) in [("gpt-5-mini", 250_000), ("gpt-5", 3_000_000), ("o9", 1_000_000)] {
        let id = format!("openai:{model}");
        assert_eq!(settings.model(Some(&id)).unwrap().price.unwrap().input, input);
    }
    assert!(settings.model(Some("local:qwen4")).is_err());
}

#[test]
fn a_server_of_the_operators_own_is_not_given_the_usual_key() {
    let settings = table("[providers.openai]\nbase_url = 'http://127.0.0.1:1/'").unwrap();
    assert!(settings.model(Some("openai:x")).unwrap().provider.key.is_none());
}

#[test]
fn a_model_cannot_be_a_way_to_another_address() {
    let settings = table(
        "[providers.gemini]\nbase_url = 'http://127.0.0.1:1/'\n\
         [providers.ollama]\n",
    )
    .unwrap();
    assert!(settings.model(Some("gemini:gemini-2.5-pro")).is_ok());
    assert!(settings.model(Some("ollama:hf.co/org/model:Q4_K_M")).is_ok());
    for name in ["../files", "a/b", "x?key=1", "x#", "a:b", "", "é", "..", &"x".repeat(201)] {
        assert!(settings.model(Some(&format!("gemini:{name}"))).is_err(), "{name}");
    }
}

#[test]
fn mistakes_are_told() {
    for (text, expected) in [
        ("", "it allows no model: name a `default`, `models` or `providers`"),
        ("default = 'gpt'", "it allows no model: name a `default`, `models` or `providers`"),
        (
            "models = ['mine:x']",
            "`models` names the provider `mine`, but `[grants.model.providers]` has none",
        ),
        (
            "models = ['openai:a*b']",
            "`models` is `openai:a*b`, but must be `PROVIDER:MODEL`; `*` may stand at its end only",
        ),
        (
            "default = 'openai:b'\nmodels = ['openai:a']",
            "`default` is `openai:b`, but must be one that `models` allows",
        ),
        ("default = 'openai:*'", "`default` is `openai:*`, but must be one model"),
        (
            "[providers.mine]",
            "the provider `mine` has the adapter `mine`, but there are only `openai`, `anthropic`, \
             `gemini`, `ollama`",
        ),
        (
            "[providers.openai]\nkey = 'MISSING_IN_TEST'",
            "there is no secret `MISSING_IN_TEST`: neither `[secrets]` nor the environment has it",
        ),
        ("[providers.openai]\nkey = 'BAD'", "the secret `BAD` holds characters that no key has"),
        (
            "[providers.openai]\nbase_url = 'http://me:secret@host/'",
            "`base_url` is `host/`, but must be an address with `http://` or `https://`, without \
             a user, `?` and `#`",
        ),
        ("[providers.openai]\n[prices.'openai:x']\ninput = 1", "missing field `output`"),
        (
            "[providers.openai]\n[prices.'openai:x']\ninput = -1\noutput = 1",
            "`prices.\"openai:x\"`: `-1` is no price: it must be a number from 0, with at most 9 \
             digits before and 6 after the point",
        ),
        ("retries = 11", "`retries` is `11`, but must be from 0 to 10"),
        ("retry_ms = 0", "`retry_ms` is `0`, but must be from 1 to 60000"),
        (
            "[providers.openai]\nsecret = 'x'",
            "unknown field `secret`, expected one of `adapter`, `base_url`, `key`",
        ),
    ] {
        assert_eq!(table(text).unwrap_err(), expected, "{text}");
    }
    assert!(flag("gpt-5").is_err() && flag("mine:x").is_err());
}
