#!/usr/bin/env bash
# Runs 'taglog verify' with the inputs of action.yml, which are in ACTION_… variables. Annotations go to the log, a table
# to the job's summary, and the result to the outputs.
set -euo pipefail

# lines TEXT: its lines into the array `lines`, without blanks around them and without empty ones.
lines() { mapfile -t lines < <(printf '%s\n' "$1" | sed -e 's/^[[:space:]]*//' -e 's/[[:space:]]*$//' -e '/^$/d'); }

taglog="${ACTION_TAGLOG:-$RUNNER_TEMP/taglog-program/bin/taglog}"
report="$RUNNER_TEMP/taglog-report.json"
table="$RUNNER_TEMP/taglog-report.txt"
rm -f "$report" "$table"

arguments=(verify --output github --report "json=$report" --report "text=$table")
if [ -n "$ACTION_SARIF" ]; then
  arguments+=(--report "sarif=$ACTION_SARIF")
fi
lines "$ACTION_FILES"
for file in "${lines[@]}"; do
  arguments+=("--file=$file")
done
lines "$ACTION_OPTIONS"
arguments+=("${lines[@]}")
lines "$ACTION_IMAGES"
arguments+=(-- "${lines[@]}")

mkdir -p "$RUNNER_TEMP/taglog-state"
export TAGLOG_STATE="$RUNNER_TEMP/taglog-state"
if [ -n "$ACTION_TRUST" ]; then
  export TAGLOG_TRUST="$ACTION_TRUST"
fi

code=0
"$taglog" "${arguments[@]}" || code=$?

passes=false
[ "$code" -ne 0 ] || passes=true
printf '%s\n' "passes=$passes" "exit-code=$code" "report=$report" >>"$GITHUB_OUTPUT"
if [ -s "$table" ]; then
  # Indented by four spaces, Markdown shows text literally.
  { printf '### taglog verify\n\n' && sed 's/^/    /' "$table"; } >>"$GITHUB_STEP_SUMMARY"
elif [ "$code" -ne 0 ]; then
  echo "::error title=taglog::nothing could be verified (exit code $code); the log of this step says why"
fi
exit "$code"
