"""Steps in containers, through the Docker Engine API (podman's socket serves it too).

There are two kinds of steps: those of a unit with a [Container] section, and docker command lines. Start with
`executor`: it says how a crash is made harmless, and which step goes where.

- `client` speaks HTTP to the engine, and tells "it said no" from "it did not answer";
- `containers` takes one container through create, start, wait and removal, whatever breaks in between;
  `inspected` is what the engine tells of one;
- `run` runs one container to its end for a step; `body` builds what is sent to create it;
- `commands` performs all docker commands but `run` and `create`; `execs` does `docker exec`; `journal` remembers on
  disk which commands were begun;
- `output` copies what a container writes from the engine's log into the step's log, and `messages` finds the place
  there again; `attachment` does it where the engine keeps too little; `images` pulls images.
"""
