"""The Dockerfile language: bytes → values. Pure: no file, no network, no kernel.

parse.parse(data, name="Dockerfile") -> Dockerfile                  the whole file; DockerfileError with moby's sentence
triggers.parse_triggers(on_build, escape) -> tuple[Instruction, …]   ONBUILD of a base image
shell.expand(word, env, escape="\\\\") -> str                         $x ${x} ${x:-y} ${x:+y} ${x:?e} ${x#p} ${x%p} ${x/a/b}, quotes
expansion.expanded(instruction, env, escape) -> Instruction         the same one with variables replaced where the language does so
scopes.GlobalScope(given, platforms).stage() -> StageScope           ARG: global, per stage, predefined
stages.target_of(file, target) · stages.source_of(file, index, name) --target, FROM and COPY --from: which stage is meant
script.run_script(run, shell) -> Script(words, files)               what RUN executes, with its heredocs
modes.changed(mode_text, mode, is_folder) -> int                    --chmod: octal or u=rwX,go=rX
"""
