#!/bin/sh
# Starts and stops the demo host, with the words and the order of the installer's alfresco.sh:
# PostgreSQL before Tomcat, Tomcat down before PostgreSQL. "Already running" is no failure.
home=$(cd "$(dirname "$0")" && pwd) || exit 1
# shellcheck source=/dev/null # written with the host
. "$home/scripts/setenv.sh"
data="$home/alf_data/postgresql"
tomcat_pid_file="$home/tomcat/temp/catalina.pid"

usage() {
    echo "usage: $0 help"
    echo "       $0 (start|stop|restart|status) [postgresql|tomcat]"
}

# PostgreSQL refuses to run as root: its programs run as the owner of the data directory.
as_owner() {
    owner=$(stat -c %U "$data") || return 1
    if [ "$(id -u)" -eq 0 ] && [ "$owner" != root ]; then
        (cd / && runuser -u "$owner" -- "$@")
    else
        "$@"
    fi
}

alive() { [ -n "$1" ] && kill -0 "$1" 2>/dev/null; }

postgresql_pid() { as_owner head -n 1 "$data/postmaster.pid" 2>/dev/null; }

tomcat_pid() { cat "$tomcat_pid_file" 2>/dev/null; }

start_postgresql() {
    if alive "$(postgresql_pid)"; then
        echo "$home/postgresql/scripts/ctl.sh : postgresql (pid $(postgresql_pid)) already running"
        return 0
    fi
    if ! as_owner "$home/postgresql/bin/pg_ctl" start -w -t 60 -s -D "$data" -l "$home/postgresql/postgresql.log"; then
        echo "$home/postgresql/scripts/ctl.sh : postgresql could not be started" >&2
        return 1
    fi
    echo "$home/postgresql/scripts/ctl.sh : postgresql started at port $PGPORT"
}

stop_postgresql() {
    if ! alive "$(postgresql_pid)"; then
        echo "$home/postgresql/scripts/ctl.sh : postgresql not running"
        return 0
    fi
    as_owner "$home/postgresql/bin/pg_ctl" stop -w -t 60 -s -m fast -D "$data" || return 1
    echo "$home/postgresql/scripts/ctl.sh : postgresql stopped"
}

start_tomcat() {
    if alive "$(tomcat_pid)"; then
        echo "$home/tomcat/scripts/ctl.sh : tomcat (pid $(tomcat_pid)) already running"
        return 0
    fi
    (cd / && exec setsid "$PYTHON" "$home/tomcat/bin/stand_in_tomcat.py" "$home" \
        </dev/null >>"$home/tomcat/logs/catalina.out" 2>&1) &
    pid=$!
    echo "$pid" >"$tomcat_pid_file"
    tries=0
    until [ -e "$home/tomcat/temp/listening.$pid" ]; do
        tries=$((tries + 1))
        if ! alive "$pid" || [ "$tries" -gt 600 ]; then
            rm -f "$tomcat_pid_file"
            tail -n 3 "$home/tomcat/logs/catalina.out" >&2
            echo "$home/tomcat/scripts/ctl.sh : tomcat could not be started" >&2
            return 1
        fi
        sleep 0.05
    done
    echo "$home/tomcat/scripts/ctl.sh : tomcat started"
}

stop_tomcat() {
    pid=$(tomcat_pid)
    if ! alive "$pid"; then
        echo "$home/tomcat/scripts/ctl.sh : tomcat not running"
        return 0
    fi
    kill "$pid"
    tries=0
    while alive "$pid"; do
        tries=$((tries + 1))
        if [ "$tries" -gt 600 ]; then
            echo "$home/tomcat/scripts/ctl.sh : tomcat could not be stopped" >&2
            return 1
        fi
        sleep 0.05
    done
    [ "$(tomcat_pid)" != "$pid" ] || rm -f "$tomcat_pid_file" # one that was started meanwhile keeps its own
    echo "$home/tomcat/scripts/ctl.sh : tomcat stopped"
}

status_postgresql() {
    if alive "$(postgresql_pid)"; then echo "postgresql already running"; else echo "postgresql not running"; fi
}

status_tomcat() {
    if alive "$(tomcat_pid)"; then echo "tomcat already running"; else echo "tomcat not running"; fi
}

both() {
    case "$1" in
        start) start_postgresql && start_tomcat ;;
        stop) stop_tomcat && stop_postgresql ;;
        restart) both stop && both start ;;
        status) status_tomcat && status_postgresql ;;
    esac
}

one() {
    case "$1" in
        restart) "stop_$2" && "start_$2" ;;
        *) "$1_$2" ;;
    esac
}

case "$1:$2" in
    start: | stop: | restart: | status:) both "$1" ;;
    start:postgresql | stop:postgresql | restart:postgresql | status:postgresql) one "$1" postgresql ;;
    start:tomcat | stop:tomcat | restart:tomcat | status:tomcat) one "$1" tomcat ;;
    *) usage ; exit 1 ;;
esac
