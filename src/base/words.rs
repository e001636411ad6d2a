//! The words for the values of an enum, in settings and in the manual: one table for both ways.

/// Gives an enum its words, in the order in which the manual names them: `WORDS`, `word` and
/// `of_word`. A value without a word does not compile.
macro_rules! words {
    ($name:ty { $($value:ident => $word:literal),* $(,)? }) => {
        impl $name {
            /// All words, in the order in which the manual names them.
            pub const WORDS: &'static [&'static str] = &[$($word),*];

            /// Returns the word for it.
            pub const fn word(self) -> &'static str {
                match self {
                    $(Self::$value => $word),*
                }
            }

            /// Returns the value that this word stands for.
            pub fn of_word(word: &str) -> Option<Self> {
                match word {
                    $($word => Some(Self::$value),)*
                    _ => None,
                }
            }
        }
    };
}

pub(crate) use words;

#[cfg(test)]
#[allow(
    unreachable_pub,
    reason = "the words of an enum are as public as it may become"
)]
mod tests {
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    enum Light {
        Red,
        Green,
    }

    words!(Light { Green => "go", Red => "stop" });

    #[test]
    fn each_word_stands_for_the_value_that_has_it() {
        assert_eq!(Light::WORDS, ["go", "stop"]);
        for light in [Light::Red, Light::Green] {
            assert_eq!(Light::of_word(light.word()), Some(light));
        }
        assert_eq!(Light::of_word("Go"), None);
    }
}
