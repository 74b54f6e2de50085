# Sourced by ./demo and ./test: makes sure that the tools are there. Installs with apt-get where that is allowed, else names what is missing in one line.

apt_minutes_max=10

# Installs Debian packages, or says which are missing.
install() {
  local apt=()
  if [[ $(id -u) == 0 ]]; then apt=(env); elif sudo -n true 2>/dev/null; then apt=(sudo -n env); fi
  if ((${#apt[@]} == 0)) || ! command -v apt-get >/dev/null; then
    echo "missing: apt-get install $* (needs root)" >&2
    exit 69
  fi
  echo "installing: $*" >&2
  apt+=(DEBIAN_FRONTEND=noninteractive timeout "${apt_minutes_max}m" apt-get -o Acquire::Retries=3 -o Acquire::http::Timeout=60 -o DPkg::Lock::Timeout=300)
  "${apt[@]}" update -qq >&2
  "${apt[@]}" install -y -qq --no-install-recommends "$@" >&2
}

# need COMMAND:PACKAGE ...: all missing ones are installed in one go.
need() {
  local pair missing=()
  for pair in "$@"; do command -v "${pair%%:*}" >/dev/null || missing+=("${pair#*:}"); done
  ((${#missing[@]} == 0)) || install "${missing[@]}"
}

# Rust is the one thing we ask for and do not install.
have_rust() {
  command -v cargo >/dev/null || { [[ -r $HOME/.cargo/env ]] && source "$HOME/.cargo/env"; }
  command -v cargo >/dev/null || { echo "missing: Rust, see https://rustup.rs" >&2; exit 69; }
}

# Build results may be shared by clones (CARGO_TARGET_DIR). Cargo tells stale ones by the age of files, and does not see that a clone lies elsewhere:
# whoever comes with another folder than the last one makes its own sources the newest.
own_target() {
  local owner=$CARGO_TARGET_DIR/built-from
  [[ -r $owner && $(<"$owner") == "$PWD" ]] && return
  mkdir -p "$CARGO_TARGET_DIR"
  find src connectors tests benches -name '*.rs' -exec touch {} +
  echo "$PWD" >"$owner"
}
