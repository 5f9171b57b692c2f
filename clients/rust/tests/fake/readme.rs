use std::time::Duration;

use redis_gateway_client::commands::policy_put;
use redis_gateway_client::testing::Fake;
use redis_gateway_client::{AdmitOptions, Gateway, Settings};

#[tokio::test]
async fn one_request_a_minute() -> Result<(), Box<dyn std::error::Error>> {
    let fake = Fake::start()?;
    let patience = Duration::from_secs(60); // A busy machine is slow.
    let settings = Settings { timeout: patience, connect_timeout: patience, ..Settings::default() };
    let gateway = Gateway::new(&fake.client(), settings)?;
    let policies = r#"{"policies":[{"name":"rpm","kind":"window","limit":1,"per_ms":60000}]}"#;
    gateway.run(&policy_put("{ml}:key:7", policies, &Default::default())).await?;

    let admit = async || gateway.admit(["{ml}:key:7"], [].into(), &AdmitOptions::default()).await;
    assert!(admit().await?.is_ok());
    assert_eq!(admit().await?.reason(), Some("limit"));
    fake.advance(Duration::from_secs(60));
    assert!(admit().await?.is_ok());

    fake.set_away(true); // As if the server did not answer: what Settings::away says is decided.
    assert_eq!(admit().await?.status(), 503);
    Ok(())
}
