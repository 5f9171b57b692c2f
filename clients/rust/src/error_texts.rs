/// Takes the fields out of the texts of errors.
pub(crate) struct Texts;

impl Texts {
    /// What follows the words.
    pub(crate) fn after(text: &str, words: &str) -> String {
        text.strip_prefix(words).unwrap_or_default().to_owned()
    }

    /// What is before the first mark, and what is behind it. `digits`: the first has nothing but digits.
    pub(crate) fn around(text: &str, mark: &str, digits: bool) -> (String, String) {
        match text.split_once(mark) {
            Some((first, second)) if !digits || first.bytes().all(|letter| letter.is_ascii_digit()) => {
                (first.to_owned(), second.to_owned())
            }
            _ => Default::default(),
        }
    }
}
