//! The models that the gateway offers, at list prices per token in US dollars.

use crate::money::Picos;
use anyhow::{Context, Result};

pub struct Model {
    pub name: &'static str,
    /// The price of a token that is sent to the model.
    pub input_price: Picos,
    /// The price of a token that the model generates.
    pub output_price: Picos,
}

const PRICE_LIST: [(&str, &str, &str); 5] = [
    ("gpt-4o", "0.0000025", "0.00001"),
    ("gpt-4o-mini", "0.00000015", "0.0000006"),
    ("claude-3-7-sonnet", "0.000003", "0.000015"),
    ("claude-3-5-haiku", "0.0000008", "0.000004"),
    ("gemini-2.0-flash", "0.0000001", "0.0000004"),
];

impl Model {
    pub fn all() -> Result<Vec<Self>> {
        let model = |(name, input, output): (&'static str, &str, &str)| {
            let price = |text: &str| text.parse().with_context(|| format!("the price of {name}"));
            Ok(Self { name, input_price: price(input)?, output_price: price(output)? })
        };
        PRICE_LIST.into_iter().map(model).collect()
    }

    /// The exact cost of a request.
    pub fn cost(&self, context_tokens: u32, generated_tokens: u32) -> Picos {
        self.input_price.times(context_tokens.into()) + self.output_price.times(generated_tokens.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_costs_its_tokens_at_the_list_price() {
        let models = Model::all().unwrap();
        let costs: Vec<String> = models.iter().map(|model| model.cost(374, 44).to_string()).collect();
        assert_eq!(costs, ["0.001375", "0.0000825", "0.001782", "0.0004752", "0.000055"]);
    }
}
