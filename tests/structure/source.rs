//! A crate's source as the compiler sees it: the tree of its modules, each with the names that it defines, the names
//! that it imports and the paths that it uses.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::path::{Path, PathBuf};

use proc_macro2::{Spacing, TokenStream, TokenTree};
use syn::visit::{self, Visit};
use syn::{Attribute, Item, UseTree, Visibility};

/// One target of the workspace: a library, a program, a test or a benchmark.
pub struct Crate {
    pub name: String,
    /// The first is the root.
    pub modules: Vec<Module>,
}

/// A module, with a file of its own or inside another module's file.
pub struct Module {
    /// The path from the root; empty for the root.
    pub path: Vec<String>,
    pub file: PathBuf,
    pub parent: Option<usize>,
    /// The module whose file contains this one: itself, if it has a file.
    pub in_file_of: usize,
    pub children: HashMap<String, usize>,
    /// Children whose macros are in scope in everything that follows them: `#[macro_use] mod …`.
    pub macro_children: Vec<usize>,
    /// The names that the module defines, macros included.
    pub items: HashSet<String>,
    pub macros: HashSet<String>,
    pub imports: Vec<Import>,
    pub globs: Vec<Vec<String>>,
    pub uses: Vec<Use>,
    /// The lines with unsafe code.
    pub unsafe_lines: Vec<usize>,
}

impl Module {
    /// Whether the module has the name: by a definition, a child or an import.
    pub fn has(&self, name: &str) -> bool {
        let imported = || self.imports.iter().any(|import| import.name == name);
        self.items.contains(name) || self.children.contains_key(name) || imported()
    }

    /// Whether the module is the one at `path`, or one below it.
    pub fn is_within(&self, path: &[&str]) -> bool {
        self.path.len() >= path.len() && self.path.iter().zip(path).all(|(own, wanted)| own == wanted)
    }
}

pub struct Import {
    pub name: String,
    pub path: Vec<String>,
}

/// A use of something in another module.
pub struct Use {
    pub path: Vec<String>,
    pub line: usize,
    pub what: What,
}

#[derive(Clone, Copy, PartialEq)]
pub enum What {
    Path,
    /// `use path::*`, which names a module.
    Glob,
    /// `name!(…)`, which may be a macro of a module above.
    Macro,
}

impl Crate {
    /// Reads the crate whose root is `file`, following its `mod` declarations.
    pub fn load(name: &str, file: &Path) -> Result<Crate, String> {
        Crate::read(name, file, &|file| fs::read_to_string(file).ok())
    }

    /// Like [`Crate::load`], with files from `read`.
    pub fn read(name: &str, file: &Path, read: &dyn Fn(&Path) -> Option<String>) -> Result<Crate, String> {
        let mut reader = Reader { modules: Vec::new(), read, errors: Vec::new() };
        let directory = file.parent().unwrap_or(Path::new("")).to_owned();
        reader.file(file, directory, Vec::new(), None, false);
        match reader.errors.is_empty() {
            true => Ok(Crate { name: name.to_owned(), modules: reader.modules }),
            false => Err(reader.errors.join("\n")),
        }
    }

    /// The module's name, for messages.
    pub fn label(&self, module: usize) -> String {
        let mut label = self.name.clone();
        for name in &self.modules[module].path {
            label += "::";
            label += name;
        }
        label
    }
}

struct Reader<'a> {
    modules: Vec<Module>,
    read: &'a dyn Fn(&Path) -> Option<String>,
    errors: Vec<String>,
}

impl Reader<'_> {
    /// Reads one file. `directory` is the one that its `mod` declarations are looked up in.
    fn file(&mut self, file: &Path, directory: PathBuf, path: Vec<String>, parent: Option<usize>, free: bool) -> usize {
        let index = self.add(file, path, parent, None);
        let Some(text) = (self.read)(file) else {
            self.errors.push(format!("{} cannot be read", file.display()));
            return index;
        };
        match syn::parse_file(&text) {
            Ok(parsed) => Collector { reader: self, module: index, directory, free, inline: false }.visit_file(&parsed),
            Err(error) => {
                self.errors.push(format!("{}:{}: {error}", file.display(), error.span().start().line));
            }
        }
        index
    }

    fn add(&mut self, file: &Path, path: Vec<String>, parent: Option<usize>, in_file_of: Option<usize>) -> usize {
        let index = self.modules.len();
        self.modules.push(Module {
            path,
            file: file.to_owned(),
            parent,
            in_file_of: in_file_of.unwrap_or(index),
            children: HashMap::new(),
            macro_children: Vec::new(),
            items: HashSet::new(),
            macros: HashSet::new(),
            imports: Vec::new(),
            globs: Vec::new(),
            uses: Vec::new(),
            unsafe_lines: Vec::new(),
        });
        index
    }
}

/// Collects the contents of one module.
struct Collector<'a, 'b> {
    reader: &'a mut Reader<'b>,
    module: usize,
    directory: PathBuf,
    /// Whether this is code whose uses do not count, such as tests inside a library. Only its `unsafe` counts.
    free: bool,
    /// Whether the module is inside another module's file.
    inline: bool,
}

impl Collector<'_, '_> {
    fn this(&mut self) -> &mut Module {
        &mut self.reader.modules[self.module]
    }

    fn uses(&mut self, path: Vec<String>, line: usize, what: What) {
        if !self.free && (what != What::Path || path.len() > 1) {
            self.this().uses.push(Use { path, line, what });
        }
    }

    fn is_unsafe(&mut self, line: usize) {
        self.this().unsafe_lines.push(line);
    }

    fn defines(&mut self, item: &Item) {
        let name = match item {
            Item::Const(item) => &item.ident,
            Item::Enum(item) => &item.ident,
            Item::Fn(item) => &item.sig.ident,
            Item::Static(item) => &item.ident,
            Item::Struct(item) => &item.ident,
            Item::Trait(item) => &item.ident,
            Item::Type(item) => &item.ident,
            Item::Union(item) => &item.ident,
            Item::Macro(item) => match &item.ident {
                Some(name) => {
                    let exported = item.attrs.iter().any(|attribute| attribute.path().is_ident("macro_export"));
                    if exported {
                        // Such a macro is a name of the crate's root, wherever it is defined.
                        let path = self.this().path.iter().cloned().chain([name.to_string()]).collect::<Vec<_>>();
                        let path = [vec!["crate".to_owned()], path].concat();
                        self.reader.modules[0].imports.push(Import { name: name.to_string(), path });
                    }
                    self.this().macros.insert(name.to_string());
                    name
                }
                None => return,
            },
            _ => return,
        };
        let name = name.to_string();
        self.this().items.insert(name);
    }

    fn tree(&mut self, tree: &UseTree, prefix: &[String]) {
        let with = |name: &syn::Ident| {
            let name = name.to_string();
            match name == "self" && !prefix.is_empty() {
                true => prefix.to_vec(),
                false => [prefix, &[name]].concat(),
            }
        };
        match tree {
            UseTree::Path(tree) => self.tree(&tree.tree, &with(&tree.ident)),
            UseTree::Group(group) => group.items.iter().for_each(|tree| self.tree(tree, prefix)),
            UseTree::Glob(star) => {
                let line = star.star_token.spans[0].start().line;
                self.this().globs.push(prefix.to_vec());
                self.uses(prefix.to_vec(), line, What::Glob);
            }
            UseTree::Name(tree) => self.import(&tree.ident, None, with(&tree.ident)),
            UseTree::Rename(tree) => self.import(&tree.ident, Some(&tree.rename), with(&tree.ident)),
        }
    }

    fn import(&mut self, ident: &syn::Ident, rename: Option<&syn::Ident>, path: Vec<String>) {
        let name = rename.map_or_else(|| path.last().cloned().unwrap_or_default(), ToString::to_string);
        let this = self.this();
        this.imports.push(Import { name, path: path.clone() });
        this.uses.push(Use { path, line: ident.span().start().line, what: What::Path });
    }

    /// Finds the paths in a macro's arguments or rules, which are not parsed.
    fn tokens(&mut self, tokens: TokenStream) {
        let tokens: Vec<TokenTree> = tokens.into_iter().collect();
        let is = |at: usize, character: char| matches!(tokens.get(at), Some(TokenTree::Punct(punct)) if punct.as_char() == character);
        let colons = |at: usize| {
            matches!(tokens.get(at), Some(TokenTree::Punct(punct)) if punct.as_char() == ':' && punct.spacing() == Spacing::Joint)
                && is(at + 1, ':')
        };
        let mut at = 0;
        while at < tokens.len() {
            match &tokens[at] {
                TokenTree::Group(group) => self.tokens(group.stream()),
                TokenTree::Ident(ident) if ident == "unsafe" => self.is_unsafe(ident.span().start().line),
                TokenTree::Ident(ident) => {
                    let line = ident.span().start().line;
                    let mut path = vec![ident.to_string()];
                    while colons(at + 1)
                        && let Some(TokenTree::Ident(next)) = tokens.get(at + 3)
                    {
                        path.push(next.to_string());
                        at += 3;
                    }
                    let what = if is(at + 1, '!') && !is(at + 2, '=') { What::Macro } else { What::Path };
                    self.uses(path, line, what);
                }
                _ => {}
            }
            at += 1;
        }
    }
}

impl<'ast> Visit<'ast> for Collector<'_, '_> {
    fn visit_item(&mut self, item: &'ast Item) {
        let free = self.free;
        self.free |= attributes(item).iter().any(is_for_tests);
        if !self.free {
            self.defines(item);
        }
        visit::visit_item(self, item);
        self.free = free;
    }

    fn visit_item_mod(&mut self, item: &'ast syn::ItemMod) {
        let name = item.ident.to_string();
        let path = self.this().path.iter().cloned().chain([name.clone()]).collect();
        let module = self.module;
        let index = if let Some((_, items)) = &item.content {
            let file = self.this().file.clone();
            let in_file_of = self.this().in_file_of;
            let index = self.reader.add(&file, path, Some(module), Some(in_file_of));
            let directory = self.directory.join(&name);
            let mut inner = Collector { reader: self.reader, module: index, directory, free: self.free, inline: true };
            items.iter().for_each(|item| inner.visit_item(item));
            index
        } else {
            let (file, directory) = match named_path(&item.attrs) {
                Some(name) => {
                    let here = if self.inline { self.directory.clone() } else { parent_of(&self.this().file) };
                    let file = here.join(name);
                    let directory = parent_of(&file);
                    (file, directory)
                }
                None => {
                    let directory = self.directory.join(&name);
                    let beside = self.directory.join(format!("{name}.rs"));
                    match (self.reader.read)(&beside) {
                        Some(_) => (beside, directory),
                        None => (directory.join("mod.rs"), directory),
                    }
                }
            };
            self.reader.file(&file, directory, path, Some(module), self.free)
        };
        if !self.free {
            self.this().children.insert(name, index);
            if item.attrs.iter().any(|attribute| attribute.path().is_ident("macro_use")) {
                self.this().macro_children.push(index);
            }
        }
    }

    fn visit_item_use(&mut self, item: &'ast syn::ItemUse) {
        if !self.free && item.leading_colon.is_none() {
            self.tree(&item.tree, &[]);
        }
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        if path.leading_colon.is_none()
            && let Some(first) = path.segments.first()
        {
            let names = path.segments.iter().map(|segment| segment.ident.to_string()).collect();
            self.uses(names, first.ident.span().start().line, What::Path);
        }
        visit::visit_path(self, path);
    }

    fn visit_item_macro(&mut self, item: &'ast syn::ItemMacro) {
        // Paths in an exported macro's rules are used by other crates, by way of the crate's root only.
        let free = self.free;
        self.free |= item.attrs.iter().any(|attribute| attribute.path().is_ident("macro_export"));
        visit::visit_item_macro(self, item);
        self.free = free;
    }

    fn visit_macro(&mut self, call: &'ast syn::Macro) {
        let names: Vec<String> = call.path.segments.iter().map(|segment| segment.ident.to_string()).collect();
        let line = call.path.segments.first().map_or(0, |first| first.ident.span().start().line);
        if names != ["macro_rules"] {
            self.uses(names, line, What::Macro);
        }
        self.tokens(call.tokens.clone());
    }

    // `pub(in path)` shows a name to other modules and uses nothing of them.
    fn visit_visibility(&mut self, _: &'ast Visibility) {}

    fn visit_attribute(&mut self, attribute: &'ast Attribute) {
        if attribute.path().is_ident("unsafe") {
            self.is_unsafe(attribute.pound_token.span.start().line);
        }
    }

    fn visit_expr_unsafe(&mut self, expression: &'ast syn::ExprUnsafe) {
        self.is_unsafe(expression.unsafe_token.span.start().line);
        visit::visit_expr_unsafe(self, expression);
    }

    fn visit_signature(&mut self, signature: &'ast syn::Signature) {
        if let Some(token) = &signature.unsafety {
            self.is_unsafe(token.span.start().line);
        }
        visit::visit_signature(self, signature);
    }

    fn visit_item_impl(&mut self, item: &'ast syn::ItemImpl) {
        if let Some(token) = &item.unsafety {
            self.is_unsafe(token.span.start().line);
        }
        visit::visit_item_impl(self, item);
    }

    fn visit_item_trait(&mut self, item: &'ast syn::ItemTrait) {
        if let Some(token) = &item.unsafety {
            self.is_unsafe(token.span.start().line);
        }
        visit::visit_item_trait(self, item);
    }

    fn visit_item_foreign_mod(&mut self, item: &'ast syn::ItemForeignMod) {
        self.is_unsafe(item.abi.extern_token.span.start().line);
        visit::visit_item_foreign_mod(self, item);
    }
}

fn attributes(item: &Item) -> &[Attribute] {
    match item {
        Item::Const(item) => &item.attrs,
        Item::Enum(item) => &item.attrs,
        Item::ExternCrate(item) => &item.attrs,
        Item::Fn(item) => &item.attrs,
        Item::ForeignMod(item) => &item.attrs,
        Item::Impl(item) => &item.attrs,
        Item::Macro(item) => &item.attrs,
        Item::Mod(item) => &item.attrs,
        Item::Static(item) => &item.attrs,
        Item::Struct(item) => &item.attrs,
        Item::Trait(item) => &item.attrs,
        Item::TraitAlias(item) => &item.attrs,
        Item::Type(item) => &item.attrs,
        Item::Union(item) => &item.attrs,
        Item::Use(item) => &item.attrs,
        _ => &[],
    }
}

/// Whether the attribute is `#[cfg(test)]` or `#[cfg(all(test, …))]`.
fn is_for_tests(attribute: &Attribute) -> bool {
    let Ok(list) = attribute.meta.require_list() else { return false };
    let condition: String = list.tokens.to_string().split_whitespace().collect();
    list.path.is_ident("cfg") && (condition == "test" || condition.starts_with("all(test,"))
}

/// The file that `#[path = "…"]` names.
fn named_path(attributes: &[Attribute]) -> Option<String> {
    let attribute = attributes.iter().find(|attribute| attribute.path().is_ident("path"))?;
    let value = &attribute.meta.require_name_value().ok()?.value;
    match value {
        syn::Expr::Lit(syn::ExprLit { lit: syn::Lit::Str(name), .. }) => Some(name.value()),
        _ => None,
    }
}

fn parent_of(file: &Path) -> PathBuf {
    file.parent().unwrap_or(Path::new("")).to_owned()
}
