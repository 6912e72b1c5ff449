scoreag attack auto_ensemble --classifier robustbench:Wong2020Fast --data cifar10:test[0:16] --eps 8/255 --out out --format robustbench > entry.json
