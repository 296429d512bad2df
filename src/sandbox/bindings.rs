//! Rust types and traits for the world in `wit/`, generated.

wasmtime::component::bindgen!({
    path: "wit",
    world: "agent",
    imports: {
        "reenact:agent/events": async | trappable,
        "reenact:agent/tools.call": async | trappable,
        "reenact:agent/tools.call-all": async | trappable,
        default: trappable,
    },
    exports: { default: async },
});
