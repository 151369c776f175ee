"""Any tuner of PEFT by its configuration: `peft:type=RANDLORA:r=32`, `peft:folder=DIR`; used when named."""
