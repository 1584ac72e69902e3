//! `org.banish1` on D-Bus: commands and questions come in as requests, news goes out to subscribers.
