//! The store's data, and the `reenact:agent` imports: each hands its request,
//! with the fuel used so far, to the [`World`].

use std::sync::Arc;

use wasmtime::component::{HasSelf, Linker, ResourceTable};
use wasmtime::{CallHook, Result, Store};
use wasmtime_wasi::WasiCtx;

use super::bindings::Agent;
use super::bindings::reenact::agent::{context, events, tools, types};
use super::limiter::Limiter;
use super::stdio::Lines;
use super::turns::{Interrupted, Turns};
use super::wasi::{Http, Timers};
use super::world::{ToolRequest, World};
use crate::journal::{Answer, Place, ToolErrorCode};
use crate::revision::Limits;

pub struct Host<W> {
    /// In a place of its own: a store is moved before it is used.
    pub world: Box<W>,
    pub limiter: Limiter,
    pub limits: Limits,
    /// Fuel used when the guest last called the host.
    pub fuel: u64,
    /// Calls from the guest into the host so far.
    pub host_calls: u64,
    pub turns: Arc<Turns>,
    pub lines: Lines,
    pub wasi: WasiCtx,
    pub http: Http,
    pub table: ResourceTable,
    pub timers: Timers,
}

/// Before every host call, brings the fuel count up to date and looks whether
/// the guest is to be interrupted; after it, writes what the guest printed.
pub fn watch_calls<W: World>(store: &mut Store<Host<W>>) {
    store.call_hook(|mut context, hook| {
        match hook {
            CallHook::CallingHost => {
                let left = context.get_fuel()?;
                let host = context.data_mut();
                host.fuel = host.limits.fuel.saturating_sub(left);
                host.host_calls += 1;
                if host.turns.interrupt_at(Place::HostCall(host.host_calls)) {
                    return Err(Interrupted.into());
                }
            }
            CallHook::ReturningFromHost => context.data_mut().write_lines()?,
            CallHook::CallingWasm | CallHook::ReturningFromWasm => {}
        }
        Ok(())
    });
}

pub fn add_to_linker<W: World>(linker: &mut Linker<Host<W>>) -> Result<()> {
    Agent::add_to_linker::<_, HasSelf<_>>(linker, |host| host)
}

impl<W: World> Host<W> {
    /// Hands complete lines of the guest's output to the world.
    pub fn write_lines(&mut self) -> Result<()> {
        while let Some((stream, text)) = self.lines.next() {
            self.world.log(self.fuel, stream, text)?;
        }
        Ok(())
    }

    /// Runs a request that may wait, and marks the wait.
    async fn wait<'a, T, F>(&'a mut self, request: impl FnOnce(&'a mut W, u64) -> F) -> Result<T>
    where
        F: Future<Output = Result<T, super::world::Stopped>> + Send + 'a,
    {
        let turns = Arc::clone(&self.turns);
        turns.set_waiting(true);
        let answer = request(&mut self.world, self.fuel).await;
        turns.set_waiting(false);
        Ok(answer?)
    }

    pub async fn sleep(&mut self, until: u64) -> Result<()> {
        self.wait(|world, fuel| world.sleep(fuel, until)).await
    }

    async fn relieve(&mut self) -> Result<()> {
        self.wait(|world, _| world.relieve()).await
    }
}

impl<W: World> types::Host for Host<W> {}

impl<W: World> context::Host for Host<W> {
    fn current(&mut self) -> Result<context::RunInfo> {
        let facts = self.world.facts();
        Ok(context::RunInfo {
            run_id: facts.run.clone(),
            agent: facts.agent.clone(),
            revision: facts.revision.clone(),
        })
    }

    fn config(&mut self) -> Result<String> {
        Ok(self.world.facts().config.to_string())
    }

    fn manifest(&mut self) -> Result<String> {
        Ok(self.world.facts().manifest.to_string())
    }
}

impl<W: World> events::Host for Host<W> {
    async fn emit(&mut self, kind: String, data: String) -> Result<()> {
        self.world.emit(self.fuel, kind, data)?;
        self.relieve().await
    }

    async fn open(&mut self, kind: String, data: String) -> Result<u64> {
        let span = self.world.open(self.fuel, kind, data)?;
        self.relieve().await?;
        Ok(span)
    }

    async fn close(&mut self, span: u64, data: String) -> Result<()> {
        self.world.close(self.fuel, span, data)?;
        self.relieve().await
    }
}

impl<W: World> tools::Host for Host<W> {
    fn available(&mut self) -> Result<Vec<tools::Tool>> {
        let tools = self.world.tools().iter().map(|tool| tools::Tool {
            name: tool.name.clone(),
            description: tool.description.clone(),
            parameters: tool.parameters.as_str().to_owned(),
        });
        Ok(tools.collect())
    }

    async fn call(
        &mut self,
        name: String,
        arguments: String,
    ) -> Result<Result<String, tools::ToolError>> {
        let calls = vec![ToolRequest { name, arguments }];
        let answers = self.wait(|world, fuel| world.call(fuel, calls)).await?;
        Ok(answers.into_iter().map(to_guest).next().expect("one call has one answer"))
    }

    async fn call_all(
        &mut self,
        calls: Vec<tools::ToolCall>,
    ) -> Result<Vec<Result<String, tools::ToolError>>> {
        let calls = calls
            .into_iter()
            .map(|call| ToolRequest { name: call.name, arguments: call.arguments })
            .collect();
        let answers = self.wait(|world, fuel| world.call(fuel, calls)).await?;
        Ok(answers.into_iter().map(to_guest).collect())
    }
}

fn to_guest(answer: Answer) -> Result<String, tools::ToolError> {
    match answer {
        Answer::Ok(output) => Ok(output.content.as_str().to_owned()),
        Answer::Error(error) => {
            let code = match error.code {
                ToolErrorCode::Denied => tools::ToolErrorCode::Denied,
                ToolErrorCode::UnknownTool => tools::ToolErrorCode::UnknownTool,
                ToolErrorCode::InvalidArguments => tools::ToolErrorCode::InvalidArguments,
                ToolErrorCode::Failed => tools::ToolErrorCode::Failed,
                ToolErrorCode::Timeout => tools::ToolErrorCode::Timeout,
                ToolErrorCode::TooLarge => tools::ToolErrorCode::TooLarge,
                ToolErrorCode::Interrupted => tools::ToolErrorCode::Interrupted,
            };
            Err(tools::ToolError { code, message: error.message })
        }
    }
}
