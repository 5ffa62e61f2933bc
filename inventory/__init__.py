"""The places as data: PoPs, cloud regions, prices, accelerators, workloads; and the one loader that reads them."""
