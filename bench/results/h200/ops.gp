# Draws the .svg and the .png beside this script from the .tsv: run gnuplot in this folder.
set encoding utf8
set datafile separator "\t"
set title 'ops: gpu (µs) against ops'."\n".'NVIDIA H200'
set xlabel 'ops'
set ylabel 'gpu (µs), median and quartiles'
set grid back lt 1 dt 1 lc rgb '#d8d8d8' lw 1
set border 3
set xtics nomirror
set ytics nomirror
set key outside right top vertical Left reverse samplen 2 noenhanced
set key title 'kind' left
set logscale x
set xtics ('1' 1, '2' 2, '5' 5, '10' 10, '20' 20, '50' 50)
set xrange [0.81225239635623547:78.793242454074644]
set logscale y
set ytics ('5' 5, '10' 10, '20' 20)
set yrange [2.8556432133450782:47.709479108177284]
set terminal svg size 960,560 dynamic noenhanced font 'Helvetica,Arial,sans-serif,15' background 'white'
set output 'ops.svg'
plot 'ops.tsv' index 0 using 1:2:3:4 with yerrorlines lc rgb '#0072B2' lw 2 pt 7 ps 1 title 'add', \
     'ops.tsv' index 1 using 1:2:3:4 with yerrorlines lc rgb '#D55E00' lw 2 pt 5 ps 1 title 'cap', \
     'ops.tsv' index 2 using 1:2:3:4 with yerrorlines lc rgb '#009E73' lw 2 pt 9 ps 1 title 'ablate', \
     'ops.tsv' index 3 using 1:2:3:4 with yerrorlines lc rgb '#CC79A7' lw 2 pt 13 ps 1 title 'mixed'
set terminal pngcairo size 1920,1120 noenhanced font 'Sans,15' fontscale 1.9 linewidth 2 pointscale 2
set output 'ops.png'
replot
set output
