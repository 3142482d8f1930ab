from berthctl.cli import main

main()
