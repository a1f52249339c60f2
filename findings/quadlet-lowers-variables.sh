#!/usr/bin/env bash
# quadlet (podman 5.4.2) puts the *names of variables* in AddCapability= and DropCapability= into lower case.
#
# Input: a valid .container file whose capabilities come from variables of [Service]:
#   AddCapability=${CAP} and DropCapability=$Drop_This
# Guess: the value is copied into ExecStart= as it is, as in every other key, and systemd expands ${CAP} there.
# Seen:  --cap-add ${cap} --cap-drop $drop_this
#        systemd's variables are case-sensitive, so other variables are expanded: nobody sets these, and podman is called
#        with an empty capability. Label=${CAP} in the same file keeps its case.
# What follows for us: names of variables in these two keys are taken as their author wrote them.
#
# It needs go (any that builds podman's module), and takes a minute. It fails when the behaviour has changed.
set -euo pipefail
version=v5.4.2
where=$(mktemp -d)
trap 'chmod -R u+w "$where"; rm -rf "$where"' EXIT
export GOPATH=$where/gopath GOCACHE=$where/cache CGO_ENABLED=0
cd "$where"
printf 'module finding\ngo 1.23\n' > go.mod
go get "github.com/containers/podman/v5/cmd/quadlet@$version" > get.log 2>&1 || { cat get.log; exit 2; }
go build -o quadlet github.com/containers/podman/v5/cmd/quadlet

mkdir units
cat > units/job.container <<'UNIT'
[Container]
Image=docker.io/library/busybox
AddCapability=${CAP}
DropCapability=$Drop_This
Label=cap=${CAP}
[Service]
Environment=CAP=CAP_NET_ADMIN Drop_This=CAP_KILL
UNIT
line=$(QUADLET_UNIT_DIRS=$where/units ./quadlet --dryrun 2> quadlet.log | grep ^ExecStart=)
printf 'podman %s: %s\n' "$version" "$line"
grep -F -- '--cap-add ${cap} ' <<< "$line" > /dev/null
grep -F -- '--cap-drop $drop_this ' <<< "$line" > /dev/null
grep -F -- '--label cap=${CAP} ' <<< "$line" > /dev/null
echo "seen: the names of the variables were put into lower case"
