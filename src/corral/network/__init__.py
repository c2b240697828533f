"""Networks: CNI's runtime side, subnets and ports of the host, and network namespaces that bear a name."""
