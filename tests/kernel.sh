#!/bin/sh
# A kernel to test in, as Debian builds it, in a cache folder named by its version; prints that folder.
# 27 MB and a few seconds, once; needs apt-get, not root. Usage: kernel.sh
set -eu
lacking() {
    echo "no guest kernel: $1" >&2
    exit 3
}
[ "$(uname -m)" = x86_64 ] || lacking "the guest is x86-64, this is $(uname -m)"
command -v apt-get >/dev/null && command -v dpkg-deb >/dev/null || lacking "it is a Debian package (apt-get, dpkg-deb)"
# The package of that name depends on the kernel of the day.
package=$(apt-cache depends linux-image-cloud-amd64 2>/dev/null | sed -n 's/ *Depends: \(linux-image-[0-9].*\)/\1/p' | head -1)
[ -n "$package" ] || lacking "apt knows no linux-image-cloud-amd64 (apt-get update; Debian has it)"
folder=${KSHARK_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/kshark}/$package
if [ ! -e "$folder/vmlinuz" ]; then
    work=$(mktemp -d)
    trap 'rm -rf "$work"' EXIT
    chmod 755 "$work"
    (cd "$work" && apt-get download -qq "$package" >&2) || lacking "$package cannot be downloaded"
    dpkg-deb -x "$work"/*.deb "$work/tree"
    mkdir -p "$folder"
    cp "$work"/tree/boot/vmlinuz-* "$folder/vmlinuz.new"
    mv "$folder/vmlinuz.new" "$folder/vmlinuz"
fi
echo "$folder"
