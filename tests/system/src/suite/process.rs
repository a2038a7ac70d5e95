//! One process: started, signalled, and never left behind.

use std::{
    env,
    fs::File,
    path::Path,
    process::{Child, Command, ExitStatus, Stdio},
};

use anyhow::Context;
use rustix::process::{Pid, Signal, kill_process};

/// A running program. Dropped, it is killed.
pub struct Process {
    child: Child,
}

impl Process {
    /// Starts a program with exactly these variables (and `PATH` and `HOME`); what it prints is appended to `log`.
    pub fn spawn(bin_dir: &Path, name: &str, variables: &[(String, String)], log: &Path) -> anyhow::Result<Self> {
        Self::spawn_with(&bin_dir.join(name), &[], variables, log)
    }

    /// The same with arguments, for a program anywhere.
    pub fn spawn_with(
        program: &Path,
        arguments: &[String],
        variables: &[(String, String)],
        log: &Path,
    ) -> anyhow::Result<Self> {
        let log = File::options().create(true).append(true).open(log).context("the log")?;
        let child = Command::new(program)
            .args(arguments)
            .env_clear()
            .envs(["PATH", "HOME"].into_iter().filter_map(|name| Some((name, env::var(name).ok()?))))
            .envs(variables.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null())
            .stdout(log.try_clone().context("the log")?)
            .stderr(log)
            .spawn()
            .with_context(|| format!("starting {} (tests/run builds it; TEST_BIN_DIR?)", program.display()))?;
        Ok(Self { child })
    }

    /// Its pid.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// How it ended, if it has.
    pub fn exited(&mut self) -> anyhow::Result<Option<ExitStatus>> {
        self.child.try_wait().context("asking for the exit")
    }

    pub(super) fn kill(&mut self) -> anyhow::Result<()> {
        self.child.kill().context("SIGKILL")?;
        self.child.wait().context("waiting for the killed")?;
        Ok(())
    }

    pub(super) fn freeze(&mut self) -> anyhow::Result<()> {
        self.signal(Signal::STOP)
    }

    pub(super) fn thaw(&mut self) -> anyhow::Result<()> {
        self.signal(Signal::CONT)
    }

    pub(super) fn ask_to_stop(&mut self) -> anyhow::Result<()> {
        self.signal(Signal::TERM)
    }

    fn signal(&mut self, signal: Signal) -> anyhow::Result<()> {
        kill_process(Pid::from_child(&self.child), signal).context("signalling")
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.kill();
    }
}
