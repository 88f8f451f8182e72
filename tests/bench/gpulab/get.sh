#!/bin/sh
# Gets RADV of Mesa 25 (bookworm-backports) and the Vulkan headers into FOLDER/mesa and FOLDER/dev, without root.
# usage: get.sh FOLDER
set -eu
here=$(mkdir -p "$1" && cd "$1" && pwd -P)
mirror=$(cat /etc/apt/sources.list /etc/apt/sources.list.d/* 2>/dev/null | sed -n '/^ *#/d; s|.*\(https\{0,1\}://[^ ]*/debian\)/\{0,1\}\( .*\)\{0,1\}$|\1|p' | head -n 1)
key=/usr/share/keyrings/debian-archive-keyring.gpg
get() { # SUITE FOLDER PACKAGE...
  suite=$1 folder=$here/$2
  shift 2
  apt=$here/apt/$suite
  mkdir -p "$apt/lists/partial" "$apt/cache/archives/partial" "$apt/deb" "$folder"
  echo "deb [signed-by=$key] $mirror $suite main" >"$apt/sources.list"
  o="-o Dir::Etc::SourceList=$apt/sources.list -o Dir::Etc::SourceParts=- -o Dir::State::Lists=$apt/lists -o Dir::Cache=$apt/cache -o APT::Sandbox::User=root -o Acquire::Languages=none"
  cd "$apt/deb"
  apt-get -qq $o update
  for p; do apt-get -qq $o -t "$suite" download "$p"; dpkg -x "$p"_*.deb "$folder"; done
  cd "$here"
}
get bookworm-backports mesa mesa-vulkan-drivers
get bookworm dev libvulkan-dev
lib=$(find "$here/mesa" -name libvulkan_radeon.so)
printf '{"ICD": {"api_version": "1.4.305", "library_path": "%s"}, "file_format_version": "1.0.0"}\n' "$lib" >radv_icd.json
