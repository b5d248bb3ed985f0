# apt.sh needed|useful "PACKAGE ...": install what is missing, or say in one line how to.
# What is needed ends the job where it cannot be had; what is useful does not, except in CI.
kind=$1 packages=$(echo $2)
[ -n "$packages" ] || exit 0
how="sudo apt-get install $packages"
if [ "$(id -u)" = 0 ]; then
    sudo=""
elif sudo -n true 2>/dev/null; then
    sudo="sudo -n"
elif [ -t 0 ] && command -v sudo >/dev/null; then
    sudo="sudo" # asks for the password
else
    sudo="none"
fi
if [ "$sudo" != none ] && command -v apt-get >/dev/null; then
    echo "installing $packages"
    # shellcheck disable=SC2086
    { $sudo apt-get update -qq && $sudo env DEBIAN_FRONTEND=noninteractive \
        apt-get install -y -qq --no-install-recommends $packages; } >/dev/null && exit 0
fi
if [ "$kind" = useful ] && [ "${CI:-}" != true ]; then
    echo "going on without $packages (better: $how)" >&2
    exit 0
fi
echo "please install: $how" >&2
exit 1
