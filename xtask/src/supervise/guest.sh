# In the guest, as a service of its systemd's. A line that begins with `guest: ` is an answer.
say() { echo "guest: $*"; }
phase() { hatchway status | sed -n "s/^$1  *\([a-z-]*\).*/\1/p"; }
# Of the last run.
run() { ls /run/hatchway/units/$1 | tail -n 1; }
group() { echo /sys/fs/cgroup/hatchway.slice/hatchway-$1-$(run $1).service; }
until_is() { n=0; until test "$(phase $1)" = $2 || test $n -ge 120; do sleep 0.5; n=$((n + 1)); done; }
# What its record says of its end, and the first lines of why.
told() {
    record=/run/hatchway/units/$1/$(run $1)/exit.json
    say "$1 reason $(tr -d ' \n' < $record | sed 's/.*"reason":\({[^}]*}*\|"[a-z]*"\),"code".*/\1/')"
    say "$1 memory $(tr -d ' \n' < $record | sed -n 's/.*"memory":\({.*}\),"logged".*/\1/p')"
    hatchway why $1 | grep -e ^cause: -e 'the kernel killed' | sed "s/^ */guest: $1 why /"
}
ends() { hatchway start -q --no-wait $1; n=0; until test -e /run/hatchway/units/$1/$(run $1)/exit.json || test $n -ge 240; do sleep 0.5; n=$((n + 1)); done; until_is $1 failed; told $1; }
# Until the kernel counts so much for it.
until_fills() { n=0; until test "$(cat $(group $1)/memory.current)" -gt $2 || test $n -ge 240; do sleep 0.5; n=$((n + 1)); done; }
counted() { hatchway logs $1 | tail -n 1; }
whole() { hatchway logs $1 | awk -v name=$1 '$1 != NR { bad = 1 } END { print "guest: " name " counted " (bad ? "with a gap" : "without a gap") }'; }

systemctl is-system-running --wait > /dev/null
systemctl start hatchway
for unit in neighbour limited holds; do until_is $unit ready; say "$unit is $(phase $unit)"; done
say "systemd is $(systemctl is-system-running | sed s/degraded/running/), control groups $(stat -f -c %T /sys/fs/cgroup)"
neighbour=$(run neighbour) limited=$(run limited)
hatchway logs neighbour -f > /tmp/followed 2>&1 & follower=$!

# --- Memory is accounted for ---
until_fills holds 38000000
resident() { tr -d ' \n' | sed 's/.*"tool":"holds"[^}]*"resident_bytes":\([0-9]*\).*/\1/'; }
say "stats $(hatchway stats --json | resident)"
# A look leaves out who does not answer in time, as in emulation may be.
n=0; until hatchway top -d 1 --json > /tmp/top && grep -q '"tool":"holds"' /tmp/top || test $n -ge 20; do n=$((n + 1)); done
say "top $(sed 's/.*"resident_bytes":\([0-9]*\),[^}]*"tool":"holds".*/\1/' /tmp/top)"
say "metric $(curl -s --unix-socket /run/hatchway/api.sock http://h/metrics | sed -n 's/^hatchway_unit_memory_bytes{unit="holds"} //p')"
say "systemd counts $(systemctl show -P MemoryCurrent hatchway-holds-$(run holds).service)"
say "limited has $(cat $(group limited)/tool/memory.max) of its own, keeper beside it $(wc -l < $(group limited)/keeper/cgroup.procs)"
say "left at the top $(ls -d /sys/fs/cgroup/hatchway 2> /dev/null)."

# --- The freezer ---
for unit in neighbour limited; do
    systemctl freeze hatchway-$unit-$(run $unit).service
    one=$(counted $unit); sleep 3; two=$(counted $unit)
    say "$unit frozen $(test "$one" = "$two" && echo holds still) and is $(phase $unit)"
    systemctl thaw hatchway-$unit-$(run $unit).service
    sleep 3; test "$(counted $unit)" -gt "$two" && say "$unit thawed goes on"
done

# --- Who ends for memory ---
ends small
hatchway start -q child; until_is child ready
n=0; until hatchway logs child | grep -q 'child ended' || test $n -ge 120; do sleep 0.5; n=$((n + 1)); done
say "child said $(hatchway logs child | grep '^child ended') and is $(phase child)"
hatchway stop -q child; told child
ends exits137
ends killed9
# The second run ends by another signal: what was counted in the first is not its own.
hatchway start -q --no-wait again; n=0
until test $(ls /run/hatchway/units/again | wc -l) -ge 2 || test $n -ge 120; do sleep 0.5; n=$((n + 1)); done
first=$(ls /run/hatchway/units/again | head -n 1)
say "again first $(tr -d ' \n' < /run/hatchway/units/again/$first/exit.json | sed 's/.*"reason":{"\([a-z]*\)".*/\1/')"
second=/run/hatchway/units/again/$(ls /run/hatchway/units/again | sed -n 2p)/exit.json
n=0; until test -e $second || test $n -ge 120; do sleep 0.5; n=$((n + 1)); done
say "again second $(tr -d ' \n' < $second | sed 's/.*"reason":{"\([a-z]*\)".*/\1/') $(grep -c '"memory"' $second)"
hatchway stop -q again
# A limit above: of all units together.
systemctl set-property --runtime hatchway.slice MemoryMax=256M
ends free
ends wide
ends small
# The slice has counted by now, and this one was killed by somebody.
ends free9
systemctl set-property --runtime hatchway.slice MemoryMax=infinity
# And of the machine. A machine that runs out by itself thrashes for minutes first; so the kernel is told to choose now.
hatchway start -q --no-wait large; until_is large ready; until_fills large 118000000
echo f > /proc/sysrq-trigger
n=0; until test -e /run/hatchway/units/large/$(run large)/exit.json || test $n -ge 120; do sleep 0.5; n=$((n + 1)); done
told large
for unit in neighbour limited; do say "$unit is $(phase $unit)"; done
say "neighbour run $(test $(run neighbour) = $neighbour && echo the same)"
say "limited run $(test $(run limited) = $limited && echo the same)"

# --- The clock ---
hatchway stop -q holds
look() {
    say "$1: neighbour $(phase neighbour), age $(hatchway status | sed -n 's/^neighbour  *ready  *\([0-9]*[sm]\) *$/\1/p' | sed 's/[0-9]*//')"
    hatchway restart -q tick
    say "$1: tick $(phase tick)"
    say "$1: logs to the end $(test "$(counted neighbour)" -gt "$last" && echo yes)"
    last=$(counted neighbour)
    say "$1: since $(test $(hatchway logs neighbour --since 1m | wc -l) -gt 0 && echo some)"
    say "$1: timeline ends with $(hatchway timeline | tail -n 1 | tr -s ' ' | cut -d' ' -f2-)"
    say "$1: events say $(hatchway events | grep '^-- ' | tail -n 1)"
}
last=$(counted neighbour)
hatchway restart -q tick
hatchway events --json > /tmp/before
date -s '+1 hour' > /dev/null; look 'an hour forward'
date -s '-1 hour' > /dev/null; look 'an hour back'
date -s '+10 years' > /dev/null; look 'ten years forward'
date -s '-10 years' > /dev/null; look 'ten years back'
# It fails again and again while the clock jumps.
hatchway start -q --no-wait fails
n=0; until test "$(phase fails)" = degraded || test $n -ge 60; do
    date -s '+1 hour' > /dev/null; sleep 0.3; date -s '-3 hours' > /dev/null; sleep 0.3; date -s '+2 hours' > /dev/null
    n=$((n + 1))
done
say "fails is $(phase fails) after $(ls /run/hatchway/units/fails | wc -l) runs"
for folder in /run/hatchway/units/fails/*; do
    began=$(tr -d ' \n' < $folder/unit.json | sed 's/.*"monotonic_ms":\([0-9]*\).*/\1/')
    ended=$(tr -d ' \n' < $folder/exit.json | sed 's/.*"ended":{[^}]*"monotonic_ns":\([0-9]*\).*/\1/')
    say "fails ran from $began to $((ended / 1000000)) ms"
done
hatchway timeline fails | tr -s ' ' | awk '/ fails (starting|ended)/ { print $3 }' | tr -d ':\n' | sed 's/^/guest: order /; s/$/\n/'
say "neighbour run $(test $(run neighbour) = $neighbour && echo the same) after steps"
say "neighbour starts $(hatchway events neighbour | grep -c ' neighbour starting: ')"
say "daemon restarts $(systemctl show -P NRestarts hatchway)"
whole neighbour; whole limited
sleep 1; kill $follower; wait $follower 2> /dev/null
awk '$1 != NR { bad = 1 } END { print "guest: followed " (bad || NR < 50 ? "with a gap" : "without a gap") }' /tmp/followed
