# SPDX-License-Identifier: GPL-3.0-or-later
# setup.sh - run inside the machine after banish has been copied in and scripts/activate has run: an sshd that lets a test
# fail as often as it must, and the daemon running.
set -e
banishctl --help >/dev/null
# Newer releases of OpenSSH punish an address themselves, and many logins at once are turned away at random.
printf 'MaxStartups 200:30:400\n' >/etc/ssh/sshd_config.d/banish-test.conf
sshd -T -o PerSourcePenalties=no >/dev/null 2>&1 && printf 'PerSourcePenalties no\n' >>/etc/ssh/sshd_config.d/banish-test.conf
systemctl restart ssh.service
systemctl start nftables.service
systemctl enable --quiet --now banishd.service
