"""What is measured: this library, its peers and references, each in a process of its own."""
