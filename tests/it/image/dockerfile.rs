//! Reads the Dockerfile as a builder would: variables resolved, flags understood. Whatever it does not know, it refuses:
//! what no test understands must not be in an image.

use std::collections::BTreeMap;

pub type Values = BTreeMap<String, String>;

#[derive(Debug)]
pub struct Stage {
    pub base: String,
    pub name: Option<String>,
    pub steps: Vec<Step>,
}

/// `COPY`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Copy {
    /// A stage; `None`: the context.
    pub from: Option<String>,
    /// User and group, by number.
    pub owner: Option<(u32, u32)>,
    pub sources: Vec<String>,
    pub to: String,
}

#[derive(Debug, PartialEq, Eq)]
pub enum Step {
    Workdir(String),
    Copy(Copy),
    /// A line for `sh -c`, and the variables that it sees.
    Run(String, Values),
    Env(Values),
    Label(Values),
    Expose(Vec<u16>),
    /// User and group, by number.
    User(u32, u32),
    Volume(String),
    Healthcheck(Vec<String>),
    Entrypoint(Vec<String>),
    Cmd(Vec<String>),
}

/// The stages of a Dockerfile, with the arguments that were given to its build.
pub fn read(text: &str, given: &Values) -> Result<Vec<Stage>, String> {
    let mut stages: Vec<Stage> = Vec::new();
    // Those before the first stage are for `FROM` alone; those of a stage end with it.
    let (mut global, mut known) = (Values::new(), Values::new());
    for line in lines(text) {
        let (word, rest) = line.split_once(' ').ok_or_else(|| format!("{line}: an instruction without an argument"))?;
        let fault = |fault: String| format!("{line}: {fault}");
        match (word, stages.last_mut()) {
            ("ARG", None) => argument(rest, given, &mut global).map_err(fault)?,
            ("FROM", _) => {
                let words: Vec<String> = expand(rest, &global).map_err(fault)?.split(' ').map(str::to_owned).collect();
                let (base, name) = match words.as_slice() {
                    [base] => (base, None),
                    [base, r#as, name] if r#as == "AS" => (base, Some(name.clone())),
                    _ => return Err(fault("neither `FROM image` nor `FROM image AS name`".into())),
                };
                stages.push(Stage { base: base.clone(), name, steps: Vec::new() });
                known.clear();
            }
            (_, None) => return Err(fault("only ARG may stand before the first FROM".into())),
            ("ARG", Some(_)) => argument(rest, given, &mut known).map_err(fault)?,
            (_, Some(stage)) => stage.steps.push(step(word, rest, &mut known).map_err(fault)?),
        }
    }
    Ok(stages)
}

/// Instructions, each on one line, without comments.
fn lines(text: &str) -> Vec<String> {
    let mut whole = vec![String::new()];
    for line in text.lines().filter(|line| !line.trim_start().starts_with('#')) {
        let last = whole.last_mut().expect("there is one at least");
        match line.strip_suffix('\\') {
            Some(part) => last.push_str(part),
            None => {
                last.push_str(line);
                whole.push(String::new());
            }
        }
    }
    whole.iter().map(|line| line.trim().to_owned()).filter(|line| !line.is_empty()).collect()
}

fn step(word: &str, rest: &str, known: &mut Values) -> Result<Step, String> {
    // The shell and whoever runs the image resolve these themselves.
    match word {
        "RUN" if rest.starts_with("--") || rest.starts_with('[') => return Err("RUN takes a line of shell".into()),
        "RUN" => return Ok(Step::Run(rest.to_owned(), known.clone())),
        "ENTRYPOINT" => return Ok(Step::Entrypoint(exec_form(rest)?)),
        "CMD" => return Ok(Step::Cmd(exec_form(rest)?)),
        "HEALTHCHECK" => {
            let (flags, command) = rest.split_once("CMD ").ok_or("a HEALTHCHECK without CMD")?;
            only(flags, &["interval", "timeout", "start-period", "retries"])?;
            return Ok(Step::Healthcheck(exec_form(command)?));
        }
        _ => {}
    }
    let rest = expand(rest, known)?;
    Ok(match word {
        "WORKDIR" => Step::Workdir(absolute(rest)?),
        "VOLUME" => Step::Volume(absolute(rest)?),
        "COPY" => Step::Copy(copy(&rest)?),
        "ENV" => {
            let values = pairs(&rest)?;
            known.extend(values.clone());
            Step::Env(values)
        }
        "LABEL" => Step::Label(pairs(&rest)?),
        "EXPOSE" => {
            let port = |port: &str| port.parse().map_err(|_| format!("{port} is no port"));
            Step::Expose(rest.split(' ').map(port).collect::<Result<_, _>>()?)
        }
        "USER" => {
            let (user, group) = numbers(&rest)?;
            Step::User(user, group)
        }
        _ => return Err(format!("{word} is not known here: teach the test what it does")),
    })
}

/// Declares an `ARG`: as given, or its default, or nothing.
fn argument(rest: &str, given: &Values, into: &mut Values) -> Result<(), String> {
    let (name, default) = rest.split_once('=').unwrap_or((rest, ""));
    let value = match given.get(name) {
        Some(value) => value.clone(),
        None => expand(default, into)?,
    };
    into.insert(name.to_owned(), value);
    Ok(())
}

/// `${NAME}`, of what was declared before.
fn expand(text: &str, known: &Values) -> Result<String, String> {
    let mut parts = text.split('$');
    let mut whole = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let named = part.strip_prefix('{').and_then(|part| part.split_once('}'));
        let (name, after) = named.ok_or_else(|| format!("${part} is not written ${{NAME}}"))?;
        whole += known.get(name).ok_or_else(|| format!("{name} is not declared in this stage"))?;
        whole += after;
    }
    Ok(whole)
}

fn copy(rest: &str) -> Result<Copy, String> {
    let is_flag = |word: &&str| word.starts_with("--");
    let flags: Vec<&str> = rest.split(' ').take_while(is_flag).collect();
    let mut paths: Vec<String> = rest.split(' ').skip_while(is_flag).map(str::to_owned).collect();
    only(&flags.join(" "), &["from", "chown"])?;
    let flag = |name: &str| flags.iter().find_map(|flag| flag.strip_prefix(name));
    let to = paths.pop().filter(|_| !paths.is_empty()).ok_or("COPY takes sources and a place")?;
    if paths.iter().chain([&to]).any(|path| path.is_empty() || path.contains(['*', '?', '[', '"', '<'])) {
        return Err("COPY takes plain paths".into());
    }
    let owner = flag("--chown=").map(numbers).transpose()?;
    Ok(Copy { from: flag("--from=").map(str::to_owned), owner, sources: paths, to })
}

fn only(flags: &str, known: &[&str]) -> Result<(), String> {
    for flag in flags.split_whitespace() {
        let name = flag.strip_prefix("--").and_then(|flag| flag.split_once('=')).map(|(name, _)| name);
        if !name.is_some_and(|name| known.contains(&name)) {
            return Err(format!("{flag} is none of {known:?}"));
        }
    }
    Ok(())
}

/// `65532:65532`: a name would need an /etc/passwd, and Kubernetes can't tell that it is not root.
fn numbers(text: &str) -> Result<(u32, u32), String> {
    let pair = text.split_once(':').and_then(|(user, group)| Some((user.parse().ok()?, group.parse().ok()?)));
    pair.ok_or_else(|| format!("{text} is not user:group by number"))
}

fn absolute(path: String) -> Result<String, String> {
    if path.starts_with('/') && !path.contains(' ') { Ok(path) } else { Err(format!("{path} is not an absolute path")) }
}

fn exec_form(text: &str) -> Result<Vec<String>, String> {
    serde_json::from_str(text).map_err(|_| format!("{text} is no list: a shell would run it, and there is none"))
}

/// `NAME=value NAME="a value"`
fn pairs(text: &str) -> Result<Values, String> {
    let (mut values, mut rest) = (Values::new(), text.trim());
    while !rest.is_empty() {
        let (name, after) = rest.split_once('=').ok_or_else(|| format!("{rest}: not NAME=value"))?;
        let end = match after.strip_prefix('"') {
            Some(quoted) => quoted.find('"').map(|end| (&quoted[..end], &quoted[end + 1..])),
            None => Some(after.split_once(' ').unwrap_or((after, ""))),
        };
        let (value, after) = end.ok_or_else(|| format!("{after}: a quote that does not end"))?;
        values.insert(name.to_owned(), value.to_owned());
        rest = after.trim_start();
    }
    Ok(values)
}

#[test]
fn what_a_builder_does_with_a_dockerfile_is_understood() {
    let text = "# a\nARG BASE=b:1\nFROM ${BASE} AS build\nARG X=1\nENV A=${X} B=\"two words\"\nRUN a \\\n# c\n  && b $X\n\
                COPY a b c/\nFROM scratch\nCOPY --from=build --chown=1:2 /a /b\nHEALTHCHECK --retries=3 CMD [\"a\", \"b\"]";
    let stages = read(text, &Values::from([("X".into(), "2".into())])).unwrap();
    let [build, last] = stages.as_slice() else { panic!("{stages:?}") };
    assert_eq!((build.base.as_str(), build.name.as_deref()), ("b:1", Some("build")));
    let env = Values::from([("A".into(), "2".into()), ("B".into(), "two words".into())]);
    let mut seen = env.clone();
    seen.insert("X".into(), "2".into());
    let copied = Copy { from: None, owner: None, sources: vec!["a".into(), "b".into()], to: "c/".into() };
    assert_eq!(build.steps, [Step::Env(env), Step::Run("a   && b $X".into(), seen), Step::Copy(copied)]);
    let taken = Copy { from: Some("build".into()), owner: Some((1, 2)), sources: vec!["/a".into()], to: "/b".into() };
    assert_eq!(last.steps, [Step::Copy(taken), Step::Healthcheck(vec!["a".into(), "b".into()])]);
}

#[test]
fn what_nobody_understands_in_a_dockerfile_is_refused() {
    for (line, told) in [
        ("ADD https://example.com/a /a", "ADD is not known"),
        ("COPIE a b", "COPIE is not known"),
        ("USER nonroot", "by number"),
        ("COPY --chown=nonroot a b", "by number"),
        ("COPY --link a b", "--link is none of"),
        ("COPY a", "sources and a place"),
        ("COPY *.toml .", "plain paths"),
        ("RUN --mount=type=cache,target=/x a", "a line of shell"),
        ("LABEL a=${REVISON}", "REVISON is not declared"),
        ("LABEL a=\"b", "does not end"),
        ("ENV A", "not NAME=value"),
        ("EXPOSE http", "http is no port"),
        ("WORKDIR build", "not an absolute path"),
        ("CMD hookcache serve", "a shell would run it"),
        ("HEALTHCHECK NONE", "without CMD"),
        ("HEALTHCHECK --every=1s CMD [\"a\"]", "--every=1s is none of"),
        ("FROM a as b", "neither"),
        ("STOPSIGNAL", "without an argument"),
    ] {
        let said = read(&format!("FROM scratch\n{line}\n"), &Values::new());
        assert!(said.as_ref().is_err_and(|said| said.contains(told) && said.contains(line)), "{line}: {said:?}");
    }
    assert!(read("RUN a\n", &Values::new()).is_err_and(|said| said.contains("before the first FROM")));
    assert!(read("FROM ${BASE}\n", &Values::new()).is_err_and(|said| said.contains("BASE is not declared")));
}
