//! What an image says to whoever runs it: the last stage, without its files.

use super::dockerfile::{Stage, Step, Values};

#[derive(Debug, Clone, Default)]
pub struct Settings {
    pub env: Values,
    pub labels: Values,
    pub exposed: Vec<u16>,
    /// User and group. `None`: root.
    pub user: Option<(u32, u32)>,
    pub workdir: String,
    pub volume: String,
    pub healthcheck: Vec<String>,
    pub entrypoint: Vec<String>,
    pub cmd: Vec<String>,
}

impl Settings {
    pub fn of(stage: &Stage) -> Self {
        let mut settings = Self::default();
        for step in &stage.steps {
            match step {
                Step::Env(values) => settings.env.extend(values.clone()),
                Step::Label(values) => settings.labels.extend(values.clone()),
                Step::Expose(ports) => settings.exposed.extend(ports),
                Step::User(user, group) => settings.user = Some((*user, *group)),
                Step::Workdir(path) => settings.workdir.clone_from(path),
                Step::Volume(path) => settings.volume.clone_from(path),
                Step::Healthcheck(command) => settings.healthcheck.clone_from(command),
                Step::Entrypoint(command) => settings.entrypoint.clone_from(command),
                Step::Cmd(command) => settings.cmd.clone_from(command),
                Step::Copy(_) => {}
                Step::Run(line, _) => panic!("no shell is there to run {line}"),
            }
        }
        settings
    }
}
