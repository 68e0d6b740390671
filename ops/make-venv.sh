#!/bin/sh
# Makes the virtual environment FOLDER with PYTHON, unless there is a whole one; installs what follows into it with pip.
# One that was cut off, moved, or made by another Python is not mended but made anew. Its mark is written last, and says
# where and with what it was made (the Makefile looks at it): without the mark it counts for nothing.
#
#     ops/make-venv.sh FOLDER PYTHON REQUIREMENT...      each requirement: the arguments of one pip install, quoted
set -eu
folder=$1 python=$2
shift 2
mark=$folder/.ready

fail() {
    echo "make: $1" >&2
    exit 1
}

command -v "$python" >/dev/null 2>&1 ||
    fail "there is no '$python': install Python 3.11 or newer (Debian, Ubuntu: apt install python3 python3-venv), or name one: make PYTHON=python3.12 ..."
version=$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null) ||
    fail "'$python' does not start: install Python 3.11 or newer, or name one: make PYTHON=python3.12 ..."
"$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' ||
    fail "stockledger needs Python 3.11 or newer, and '$python' is $version: make PYTHON=python3.11 ..."

is_whole() {
    [ -f "$mark" ] && [ "$(cat "$mark")" = "$PWD $python $(readlink -f "$folder/bin/python")" ] &&
        [ "$("$folder/bin/python" -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null)" = "$version" ] &&
        "$folder/bin/python" -m pip --version >/dev/null 2>&1
}

if ! is_whole; then
    rm -rf "$folder"
    if ! said=$("$python" -m venv "$folder" 2>&1) || ! "$folder/bin/python" -m pip --version >/dev/null 2>&1; then
        rm -rf "$folder"
        case $said in
        *ensurepip* | "" | *"No module named venv"*)
            fail "'$python' cannot make a virtual environment with pip: install what it lacks (Debian, Ubuntu: apt install python$version-venv), then make again" ;;
        *) fail "'$python' could not make the virtual environment $folder: $said" ;;
        esac
    fi
fi

rm -f "$mark"
for requirement in "$@"; do
    # shellcheck disable=SC2086  # each is several arguments
    eval "\"$folder/bin/python\" -m pip install --quiet --disable-pip-version-check $requirement" ||
        fail "$folder could not be filled: pip says above what is missing; make again goes on from the start"
done
printf '%s' "$PWD $python $(readlink -f "$folder/bin/python")" >"$mark"
