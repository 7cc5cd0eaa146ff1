// Included by `cargo xtask ebpf`, which records the digest in the objects, and by
// the build script of murphy-objects, which compares it.

/// Names of the objects: the binaries of this crate, one per hook family.
pub(crate) const OBJECTS: [&str; 5] = ["net", "lsm", "kprobe", "trace", "uprobe"];

/// Folders and files that the objects are made from, below the workspace.
pub(crate) const SOURCES: [&str; 4] = [
    "chaos-common/Cargo.toml",
    "chaos-common/src",
    "chaos-ebpf/Cargo.toml",
    "chaos-ebpf/src",
];

/// SHA-256 over the names and contents of all sources, in hexadecimal.
///
/// Of Rust sources only the tokens that make the objects count, of manifests only what is built. A
/// corrected comment or another line break leaves the digest as it is.
pub(crate) fn sources_digest(workspace: &std::path::Path) -> std::io::Result<String> {
    use sha2::Digest as _;

    let mut files = Vec::new();
    for source in SOURCES {
        collect(&workspace.join(source), &mut files)?;
    }
    files.sort();
    let mut digest = sha2::Sha256::new();
    for file in &files {
        let name = file.strip_prefix(workspace).unwrap_or(file);
        let mut content = std::fs::read(file)?;
        if file.extension().is_some_and(|extension| extension == "rs") {
            content = code(content);
        } else if file.ends_with("Cargo.toml") {
            content = manifest(&content);
        }
        digest.update(name.to_string_lossy().as_bytes());
        digest.update([0]);
        digest.update((content.len() as u64).to_le_bytes());
        digest.update(&content);
    }
    Ok(digest.finalize().iter().map(|byte| format!("{byte:02x}")).collect())
}

/// A manifest without comments and without what its package is called and described as.
fn manifest(source: &[u8]) -> Vec<u8> {
    let text = String::from_utf8_lossy(source);
    let mut is_package = false;
    let lines = text.lines().map(str::trim).filter(|line| {
        if line.starts_with('[') {
            is_package = *line == "[package]";
        }
        !is_package && !line.is_empty() && !line.starts_with('#')
    });
    lines.flat_map(|line| [line, "\n"]).collect::<String>().into_bytes()
}

/// A Rust source as one token a line: without comments, documentation, white space and modules of
/// tests. A text that is not Rust is returned unchanged, for the compiler to reject.
fn code(source: Vec<u8>) -> Vec<u8> {
    let text = std::str::from_utf8(&source).ok();
    match text.and_then(|text| text.parse().ok()) {
        Some(tokens) => {
            let mut text = String::new();
            write_tokens(tokens, &mut text);
            text.into_bytes()
        }
        None => source,
    }
}

fn write_tokens(tokens: proc_macro2::TokenStream, text: &mut String) {
    use proc_macro2::{Delimiter, TokenTree};

    /// Pairs that mean something else when a space parts them. The lexer also notes that other
    /// pairs touch (`?.`), which a line break changes, but not the meaning.
    const PAIRS: [&str; 22] = [
        "==", "=>", "!=", "<=", ">=", "&&", "||", "->", "<-", "::", "..", ".=", "+=", "-=", "*=",
        "/=", "%=", "^=", "&=", "|=", "<<", ">>",
    ];

    let tokens: Vec<TokenTree> = tokens.into_iter().collect();
    let mut rest = tokens.as_slice();
    while let Some((token, after)) = rest.split_first() {
        if let Some(after) = after_documentation(rest).or_else(|| after_tests(rest)) {
            rest = after;
            continue;
        }
        rest = after;
        match token {
            TokenTree::Group(group) => {
                let (open, close) = match group.delimiter() {
                    Delimiter::Parenthesis => ("(\n", ")\n"),
                    Delimiter::Brace => ("{\n", "}\n"),
                    Delimiter::Bracket => ("[\n", "]\n"),
                    Delimiter::None => ("", ""),
                };
                text.push_str(open);
                write_tokens(group.stream(), text);
                text.push_str(close);
            }
            TokenTree::Punct(punct) => {
                text.push(punct.as_char());
                let is_pair = punct.spacing() == proc_macro2::Spacing::Joint
                    && matches!(after.first(), Some(TokenTree::Punct(next))
                        if PAIRS.contains(&format!("{}{}", punct.as_char(), next.as_char()).as_str()));
                if !is_pair {
                    text.push('\n');
                }
            }
            TokenTree::Ident(_) | TokenTree::Literal(_) => {
                // A string may hold line breaks, so that its length stands before it.
                let token = token.to_string();
                text.push_str(&format!("{} {token}\n", token.len()));
            }
        }
    }
}

/// What follows `#[doc…]` or `#![doc…]`, as which the lexer gives comments of documentation.
fn after_documentation(tokens: &[proc_macro2::TokenTree]) -> Option<&[proc_macro2::TokenTree]> {
    let (content, after) = attribute(tokens)?;
    let is_doc = content.into_iter().next().is_some_and(|name| name.to_string() == "doc");
    is_doc.then_some(after)
}

/// What follows `#[cfg(test)] mod NAME { … }`.
fn after_tests(tokens: &[proc_macro2::TokenTree]) -> Option<&[proc_macro2::TokenTree]> {
    let (content, after) = attribute(tokens)?;
    if content.to_string().replace(' ', "") != "cfg(test)" {
        return None;
    }
    let [proc_macro2::TokenTree::Ident(keyword), _, proc_macro2::TokenTree::Group(_), after @ ..] =
        after
    else {
        return None;
    };
    (*keyword == "mod").then_some(after)
}

/// The content of the attribute at the start of some tokens, and what follows it.
fn attribute(
    tokens: &[proc_macro2::TokenTree],
) -> Option<(proc_macro2::TokenStream, &[proc_macro2::TokenTree])> {
    use proc_macro2::TokenTree;

    let is = |token: &TokenTree, wanted: char| {
        matches!(token, TokenTree::Punct(punct) if punct.as_char() == wanted)
    };
    let (hash, after) = tokens.split_first()?;
    let (first, rest) = after.split_first()?;
    let (group, after) = if is(first, '!') { rest.split_first()? } else { (first, rest) };
    match group {
        TokenTree::Group(group)
            if is(hash, '#') && group.delimiter() == proc_macro2::Delimiter::Bracket =>
        {
            Some((group.stream(), after))
        }
        _ => None,
    }
}

fn collect(path: &std::path::Path, files: &mut Vec<std::path::PathBuf>) -> std::io::Result<()> {
    if path.is_dir() {
        for entry in std::fs::read_dir(path)? {
            collect(&entry?.path(), files)?;
        }
    } else {
        files.push(path.to_owned());
    }
    Ok(())
}

/// What an object says after `key` in its `.murphy` section, up to the line's end.
pub(crate) fn recorded(object: &[u8], key: &str) -> Option<String> {
    let start = object.windows(key.len()).position(|window| window == key.as_bytes())? + key.len();
    let line = object[start..].split(|&byte| byte == b'\n').next()?;
    String::from_utf8(line.to_vec()).ok()
}
