--- `steer bench`: runs a benchmark, which is a Lua script: the same as `steer run`.
return {
    usage = [[
usage: steer bench FILE.lua [ARGUMENTS]

Runs a benchmark as `steer run` runs a script. bench/engine.lua in the source tree measures the steering engine;
`steer bench bench/engine.lua --help` says how.
]],
    run = function(args) return require("steer.cli.run").run(args, "bench") end,
}
