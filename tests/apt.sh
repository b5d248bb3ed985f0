# apt.sh "PACKAGE ...": install what is missing, or say in one line how to.
[ -n "$1" ] || exit 0
sudo=""
[ "$(id -u)" = 0 ] || sudo="sudo -n"
echo "missing:$1"
if command -v apt-get >/dev/null && $sudo true 2>/dev/null; then
    echo "installing with apt-get"
    $sudo apt-get update -qq
    # shellcheck disable=SC2086
    DEBIAN_FRONTEND=noninteractive $sudo apt-get install -y -qq --no-install-recommends $1 >/dev/null
else
    echo "please install them: sudo apt-get install$1" >&2
    exit 1
fi
