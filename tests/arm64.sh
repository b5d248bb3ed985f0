#!/bin/sh
# Debian for arm64 to test in, unpacked in a cache folder named by its kernel's version; prints that folder, with the
# kernel (vmlinuz), the programs that talk (tree) and what kshark needs of PyPI (packages).
# 120 MB and a minute, once; needs apt-get, not root. Usage: arm64.sh PYTHON DISTRIBUTION ...
set -eu
lacking() {
    echo "no guest of arm64: $1" >&2
    exit 3
}
python=$1
shift
command -v apt-get >/dev/null && command -v dpkg-deb >/dev/null || lacking "it is made of Debian packages (apt-get, dpkg-deb)"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
trap 'exit 1' INT TERM
mkdir -p "$work/state/lists/partial" "$work/cache/archives/partial"
: >"$work/status"
cat >"$work/apt.conf" <<END
APT::Architecture "arm64";
APT::Architectures { "arm64"; };
APT::Sandbox::User "root";
Dir::State "$work/state";
Dir::State::status "$work/status";
Dir::Cache "$work/cache";
END
export APT_CONFIG="$work/apt.conf"
apt-get update -qq >&2 || lacking "apt-get update failed"
package=$(apt-cache depends linux-image-arm64 2>/dev/null | sed -n 's/ *Depends: \(linux-image-[0-9].*\)/\1/p' | head -1)
[ -n "$package" ] || lacking "apt knows no linux-image-arm64"
key=$({ cat "$0"; echo "$@"; } | cksum | cut -d' ' -f1) # another list of packages is another folder
folder=${KSHARK_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/kshark}/$package-$key
if [ ! -e "$folder" ]; then
    apt-get install -y -qq --download-only --no-install-recommends "$package" python3 libbpf1 libc6 busybox-static \
        nginx-light redis-server redis-tools dnsmasq-base bind9-dnsutils curl openssl >&2 ||
        lacking "its packages cannot be downloaded"
    rm -rf "$folder.new"
    mkdir -p "$folder.new/tree"
    for file in "$work"/cache/archives/*.deb; do
        dpkg-deb -x "$file" "$folder.new/tree"
    done
    mv "$folder.new"/tree/boot/vmlinuz-* "$folder.new/vmlinuz"
    for dropped in boot lib/modules usr/lib/linux-image-* usr/share var/cache; do
        rm -rf "$folder.new/tree/"$dropped
    done
    unset APT_CONFIG
    version=$(ls "$folder.new/tree/usr/bin" | sed -n 's/^python\(3\.[0-9]*\)$/\1/p')
    "$python" -m pip download -q -d "$folder.new/packages" --python-version "$version" --only-binary=:all: \
        --platform manylinux2014_aarch64 --platform manylinux_2_28_aarch64 "$@" >&2 || lacking "PyPI has not all of: $*"
    mv "$folder.new" "$folder"
fi
echo "$folder"
