# `kshark.digest`, compiled.

cpdef str flow_id(bytes client, bytes server, int client_port, int server_port, int proto, long long first_ns)
