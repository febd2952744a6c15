# shellcheck shell=bash disable=SC2154
# For services that are one process, whose number is in "$folder/pid": `stop` ends it. `source` this.

stop() {
  [[ -f $folder/pid ]] || return 0
  local pid attempt
  pid=$(< "$folder/pid")
  # Only what was started here: the number may belong to another by now.
  if [[ $(ps -o args= -p "$pid" 2> /dev/null) == *"$folder/"* ]]; then
    kill "$pid" 2> /dev/null || true
    for ((attempt = 0; attempt < 100; attempt++)); do
      kill -0 "$pid" 2> /dev/null || break
      sleep 0.1
    done
    kill -9 "$pid" 2> /dev/null || true
  fi
  rm -f "$folder/pid"
}
