"""Other mail servers, installed on this machine: private instances on loopback, to compare with and to deliver to."""
