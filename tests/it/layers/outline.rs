//! What a source file defines, imports and names: enough of Rust's grammar to follow paths.

/// The outline of one file.
#[derive(Debug, Default)]
pub(super) struct Outline {
    /// Names of items at the top of the file, `mod name { … }` among them.
    pub(super) items: Vec<String>,
    /// `mod name;`.
    pub(super) children: Vec<String>,
    /// What `use` brings into scope, anywhere in the file.
    pub(super) imports: Vec<Import>,
    /// Paths of more than one name outside of `use`.
    pub(super) paths: Vec<Place>,
    /// Only `mod name;` and `use`.
    pub(super) is_door: bool,
}

/// A name that `use` brings into scope.
#[derive(Clone, Debug)]
pub(super) struct Import {
    /// `None` for `*`.
    pub(super) name: Option<String>,
    /// What it stands for.
    pub(super) target: Place,
}

/// A path in a file.
#[derive(Clone, Debug)]
pub(super) struct Place {
    /// Its names; `super` and `self` are those of the file's module.
    pub(super) path: Vec<String>,
    /// Counted from 1.
    pub(super) line: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Token<'a> {
    Name(&'a str),
    /// `::`
    Colons,
    Sign(char),
}

/// Reads code without comments, texts and tests.
pub(super) fn outline(code: &str) -> Outline {
    let tokens = tokens(code);
    let mut reader = Reader {
        tokens: &tokens,
        at: 0,
        inline: 0,
        outline: Outline {
            is_door: true,
            ..Outline::default()
        },
    };
    while reader.at < tokens.len() {
        reader.step(true);
    }
    reader.outline
}

struct Reader<'a> {
    tokens: &'a [(Token<'a>, usize)],
    at: usize,
    /// How many `mod name { … }` are open.
    inline: usize,
    outline: Outline,
}

impl<'a> Reader<'a> {
    fn peek(&self, ahead: usize) -> Option<Token<'a>> {
        self.tokens.get(self.at + ahead).map(|(token, _)| *token)
    }

    fn name(&self, ahead: usize) -> Option<&'a str> {
        match self.peek(ahead)? {
            Token::Name(name) => Some(name),
            _ => None,
        }
    }

    fn is_sign(&self, ahead: usize, sign: char) -> bool {
        self.peek(ahead) == Some(Token::Sign(sign))
    }

    fn line(&self) -> usize {
        self.tokens.get(self.at).map_or(0, |(_, line)| *line)
    }

    /// Reads one token with what belongs to it; `top`: where items of the file's module stand.
    fn step(&mut self, top: bool) {
        match self.peek(0) {
            Some(Token::Name("use")) if !self.is_sign(1, '<') => {
                self.at += 1;
                let line = self.line();
                self.tree(Vec::new(), line);
            }
            Some(Token::Name("pub")) if self.is_sign(1, '(') => {
                // `pub(in path)` names no item.
                while !self.is_sign(0, ')') && self.at < self.tokens.len() {
                    self.at += 1;
                }
                self.at += 1;
            }
            Some(Token::Name("mod")) if self.is_sign(2, ';') => {
                self.outline
                    .children
                    .extend(self.name(1).map(str::to_owned));
                self.at += 3;
            }
            Some(Token::Name("mod")) if self.is_sign(2, '{') => {
                self.item(self.name(1), top);
                self.at += 3;
                self.inline += 1;
                self.block(false);
                self.inline -= 1;
            }
            Some(Token::Name("macro_rules")) if self.is_sign(1, '!') => {
                self.item(self.name(2), top);
                self.at += 3;
            }
            Some(Token::Name("impl")) => {
                self.outline.is_door &= !top;
                self.at += 1;
            }
            Some(Token::Name(
                "struct" | "enum" | "union" | "trait" | "type" | "const" | "static" | "fn",
            )) => {
                match self.name(1) {
                    // `const fn`, `static mut`
                    Some("fn" | "mut" | "unsafe" | "extern" | "async") | None => {}
                    name => self.item(name, top),
                }
                self.at += 1;
                if self.name(0).is_some_and(|name| name != "fn") {
                    self.at += 1;
                }
            }
            Some(Token::Name(_)) if self.is_sign(1, '!') && self.is_sign(2, '{') && top => {
                // What a macro is given may be items.
                self.outline.is_door = false;
                self.at += 3;
                self.block(true);
            }
            Some(Token::Name(_)) => self.path(),
            Some(Token::Sign('{')) => {
                self.at += 1;
                self.block(false);
            }
            _ => self.at += 1,
        }
    }

    /// All up to the end of a block that is open.
    fn block(&mut self, top: bool) {
        while self.at < self.tokens.len() {
            if self.is_sign(0, '}') {
                self.at += 1;
                return;
            }
            self.step(top);
        }
    }

    fn item(&mut self, name: Option<&str>, top: bool) {
        if top {
            self.outline.is_door = false;
            self.outline.items.extend(name.map(str::to_owned));
        }
    }

    /// A path in code. What follows a dot is a field or a method.
    fn path(&mut self) {
        let line = self.line();
        let is_member = self.at > 0 && self.tokens[self.at - 1].0 == Token::Sign('.');
        let mut path = Vec::new();
        while let Some(name) = self.name(0) {
            path.push(name.to_owned());
            self.at += 1;
            if self.peek(0) != Some(Token::Colons) {
                break;
            }
            self.at += 1;
        }
        if path.len() > 1 && !is_member {
            let path = self.of_file(path);
            self.outline.paths.push(Place { path, line });
        }
    }

    /// A tree of imports, below a path.
    fn tree(&mut self, mut path: Vec<String>, line: usize) {
        loop {
            match self.peek(0) {
                Some(Token::Name("as")) => {
                    self.import(self.name(1).map(str::to_owned), path, line);
                    self.at += 2;
                    return;
                }
                Some(Token::Name(name)) => {
                    path.push(name.to_owned());
                    self.at += 1;
                }
                Some(Token::Colons) => self.at += 1,
                Some(Token::Sign('*')) => {
                    self.at += 1;
                    let path = self.of_file(path);
                    let target = Place { path, line };
                    self.outline.imports.push(Import { name: None, target });
                    return;
                }
                Some(Token::Sign('{')) => {
                    self.at += 1;
                    while self.at < self.tokens.len() && !self.is_sign(0, '}') {
                        let line = self.line();
                        self.tree(path.clone(), line);
                        if self.is_sign(0, ',') {
                            self.at += 1;
                        }
                    }
                    self.at += 1;
                    return;
                }
                _ => {
                    let name = match path.last().map(String::as_str) {
                        Some("self") if path.len() > 1 => path.get(path.len() - 2).cloned(),
                        _ => path.last().cloned(),
                    };
                    self.import(name, path, line);
                    return;
                }
            }
        }
    }

    fn import(&mut self, name: Option<String>, mut path: Vec<String>, line: usize) {
        if path.len() > 1 && path.last().is_some_and(|last| last == "self") {
            path.pop();
        }
        let path = self.of_file(path);
        if name.is_some() && !path.is_empty() {
            let target = Place { path, line };
            self.outline.imports.push(Import { name, target });
        }
    }

    /// Inside of `mod name { … }`, `super` is the file's own module.
    fn of_file(&self, mut path: Vec<String>) -> Vec<String> {
        for _ in 0..self.inline {
            if path.first().is_some_and(|first| first == "super") {
                path.remove(0);
            }
        }
        if self.inline > 0 && path.first().is_none_or(|first| first != "crate") {
            path.insert(0, "self".to_owned());
        }
        path
    }
}

fn tokens(code: &str) -> Vec<(Token<'_>, usize)> {
    let mut tokens = Vec::new();
    let mut line = 1;
    let mut rest = code;
    while let Some(c) = rest.chars().next() {
        let part = |c: char| c.is_alphanumeric() || c == '_';
        let length = if part(c) {
            let length = rest.find(|c| !part(c)).unwrap_or(rest.len());
            tokens.push((Token::Name(&rest[..length]), line));
            length
        } else if rest.starts_with("::") {
            tokens.push((Token::Colons, line));
            2
        } else {
            if c == '\n' {
                line += 1;
            } else if !c.is_whitespace() {
                tokens.push((Token::Sign(c), line));
            }
            c.len_utf8()
        };
        rest = &rest[length..];
    }
    tokens
}
