//! `banishctl`: what it shows and does.
